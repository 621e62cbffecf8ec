// Which elements to draw in the paper's figure (importance for System 1 against System 2): every region
// gets its share of the points, at least one, spread evenly over the flat order. The choice within
// each stretch is by a hash of its number, so that no column of a matrix is met again and again.

/** Indices of at most `points` elements, ascending, from regions (E) u8; the same for the same input. */
export function scatterElements(regions: Uint8Array, points: number): Uint32Array {
  const members: number[] = [0, 0, 0, 0];
  for (const code of regions) members[code]++;
  const quotas = apportion(members, Math.min(points, regions.length));
  const picked: number[] = [];
  const seen = [0, 0, 0, 0];
  const taken = [0, 0, 0, 0];
  const next = members.map((count, code) => nextPick(code, 0, count, quotas[code]));
  for (const [index, code] of regions.entries()) {
    if (seen[code]++ !== next[code]) continue;
    picked.push(index);
    next[code] = nextPick(code, ++taken[code], members[code], quotas[code]);
  }
  return Uint32Array.from(picked);
}

/** The member of a region that stands for its `number`-th stretch of `quota`; -1 past the last. */
function nextPick(code: number, number: number, members: number, quota: number): number {
  if (number >= quota) return -1;
  const begin = Math.floor(number * members / quota);
  const end = Math.floor((number + 1) * members / quota);
  let hash = Math.imul(number + 1, 0x9e3779b1) ^ Math.imul(code + 1, 0x85ebca77);
  hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
  hash = (hash ^ (hash >>> 13)) >>> 0;
  return begin + hash % (end - begin);
}

/** Shares of `points` in proportion to `members`, one at least where there are any and points allow. */
function apportion(members: readonly number[], points: number): number[] {
  const total = members.reduce((sum, count) => sum + count, 0);
  const exact = members.map((count) => total === 0 ? 0 : points * count / total);
  const quotas = exact.map((share, code) => members[code] > 0 ? Math.max(1, Math.floor(share)) : 0);
  const change = (step: number) => {
    const lack = (code: number) => step * (exact[code] - quotas[code]);
    const able = [0, 1, 2, 3].filter((code) =>
      step > 0 ? quotas[code] < members[code] : quotas[code] > 0
    );
    quotas[able.sort((a, b) => lack(b) - lack(a) || a - b)[0]] += step;
  };
  const sum = () => quotas.reduce((a, b) => a + b, 0);
  while (sum() < points) change(1);
  while (sum() > points) change(-1);
  return quotas;
}
