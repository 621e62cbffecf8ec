// The cut by definition, in exact integers: a stable descending sort and prefix sums as BigInt.

const bits = new DataView(new ArrayBuffer(8));

/** A finite f32, not negative, in units of 2^-149. */
function exactF32(value: number): bigint {
  bits.setFloat32(0, value);
  const word = bits.getUint32(0);
  const exponent = word >>> 23;
  const fraction = word & 0x7fffff;
  return exponent === 0 ? BigInt(fraction) : BigInt(fraction | 0x800000) << BigInt(exponent - 1);
}

/** A finite f64, not negative, as numerator / 2^1074. */
function exactF64(value: number): bigint {
  bits.setFloat64(0, value);
  const word = bits.getBigUint64(0);
  const exponent = word >> 52n;
  const fraction = word & (2n ** 52n - 1n);
  return exponent === 0n ? fraction : (fraction | 2n ** 52n) << (exponent - 1n);
}

/** Indices by descending value, ties by the lower index. */
export function descending(values: ArrayLike<number>, among?: (index: number) => boolean) {
  const order = Array.from({ length: values.length }, (_, i) => i).filter(among ?? (() => true));
  return order.sort((a, b) => values[b] - values[a] || a - b);
}

/** 1 for the shortest prefix whose exact sum is at least theta * total. */
export function keptByShare(values: Float32Array, theta: number): Uint8Array {
  const order = descending(values);
  let total = 0n;
  for (const value of values) total += exactF32(value);
  const kept = new Uint8Array(values.length);
  let sum = 0n;
  for (const index of order) {
    sum += exactF32(values[index]);
    kept[index] = 1;
    if (sum << 1074n >= exactF64(theta) * total) break;
  }
  return kept;
}

/** 1 for the first floor(share * n) in order of the n elements that are shared. */
export function topShared(values: Float32Array, regions: Uint8Array, share: number): Uint8Array {
  const order = descending(values, (index) => regions[index] === 3);
  const kept = new Uint8Array(values.length);
  for (const index of order.slice(0, Math.floor(share * order.length))) kept[index] = 1;
  return kept;
}
