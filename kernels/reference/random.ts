/** Standard-normal values, the same for the same seed (mulberry32 and Box-Muller). */
export function normal(count: number, seed: number, scale = 1): Float32Array<ArrayBuffer> {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  return Float32Array.from(
    { length: count },
    () => scale * Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform()),
  );
}

/** Sum of squared differences over sum of squares of `wanted`; NaN anywhere gives NaN. */
export function nmse(found: ArrayLike<number>, wanted: ArrayLike<number>): number {
  if (found.length !== wanted.length) {
    throw new RangeError(`Cannot compare ${found.length} values with ${wanted.length}`);
  }
  let error = 0;
  let power = 0;
  for (let i = 0; i < wanted.length; i++) {
    error += (found[i] - wanted[i]) ** 2;
    power += wanted[i] ** 2;
  }
  return power === 0 ? error : error / power;
}
