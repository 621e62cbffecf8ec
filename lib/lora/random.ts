// Seeded random numbers for the start of an adapter: sfc32 (Doty-Humphrey's Small Fast Chaotic
// generator) seeded with a hash of a seed and a name. Not for secrets.

export interface RandomGenerator {
  /** In (0, 1), 52 random bits. */
  uniform(): number;
  /** Standard normal, by Box and Muller. */
  normal(): number;
}

/** A generator of its own for this seed and name. */
export function randomGenerator(seed: number, name: string): RandomGenerator {
  let [a, b, c] = hashWords(`${seed} ${name}`);
  let counter = 1;
  const next = () => {
    const result = (a + b + counter) >>> 0;
    counter = (counter + 1) >>> 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) >>> 0;
    c = (((c << 21) | (c >>> 11)) + result) >>> 0;
    return result;
  };
  for (let i = 0; i < 15; i++) next();
  const uniform = () => ((next() >>> 6) * 2 ** 26 + (next() >>> 6) + 0.5) / 2 ** 52;
  let spare: number | null = null;
  const normal = () => {
    if (spare !== null) {
      const value = spare;
      spare = null;
      return value;
    }
    const radius = Math.sqrt(-2 * Math.log(uniform()));
    const angle = 2 * Math.PI * uniform();
    spare = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  };
  return { uniform, normal };
}

/** Three words that depend on every character (FNV-1a with three offsets, finished as MurmurHash3). */
function hashWords(text: string): number[] {
  return [0x811c9dc5, 0x9e3779b9, 0x85ebca6b].map((offset) => {
    let hash = offset;
    for (const byte of new TextEncoder().encode(text)) hash = Math.imul(hash ^ byte, 0x01000193);
    hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
    hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
    return (hash ^ (hash >>> 16)) >>> 0;
  });
}
