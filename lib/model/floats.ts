// f32, f16 and bf16 as they lie in files: widening to f32, narrowing to f16, and a search for NaN and
// Inf by their bits (all exponent bits set). A bf16 is the upper half of an f32.

/** The float types that weights are stored in. */
export type FloatType = "f32" | "f16" | "bf16";

/** Bytes of one element. */
export const floatBytes: Record<FloatType, number> = { f32: 4, f16: 2, bf16: 2 };

/** The values as f32, as they lie in `bytes`; a view on it where they are f32 already. */
export function toFloat32(
  { dtype, bytes }: { dtype: FloatType; bytes: Uint8Array<ArrayBuffer> },
): Float32Array<ArrayBuffer> {
  const count = bytes.byteLength / floatBytes[dtype];
  if (dtype === "f32") return new Float32Array(bytes.buffer, bytes.byteOffset, count);
  if (dtype === "f16") {
    return new Float32Array(new Float16Array(bytes.buffer, bytes.byteOffset, count));
  }
  const halves = new Uint16Array(bytes.buffer, bytes.byteOffset, count);
  const words = new Uint32Array(count);
  for (let i = 0; i < count; i++) words[i] = halves[i] << 16;
  return new Float32Array(words.buffer);
}

/** The index of the first NaN or Inf, or -1. */
export function firstNonFinite(dtype: FloatType, bytes: Uint8Array<ArrayBuffer>): number {
  const count = bytes.byteLength / floatBytes[dtype];
  // Adding one to an exponent that is all ones carries into the (cleared) sign bit, so one pass
  // without branches tells whether there is any; only then is it looked for.
  let carried = 0;
  if (dtype === "f32") {
    const words = new Uint32Array(bytes.buffer, bytes.byteOffset, count);
    for (let i = 0; i < count; i++) carried |= (words[i] & 0x7fffffff) + 0x00800000;
    if (carried >= 0) return -1;
    return words.findIndex((word) => (word & 0x7f800000) === 0x7f800000);
  }
  const exponent = dtype === "f16" ? 0x7c00 : 0x7f80;
  const one = dtype === "f16" ? 0x0400 : 0x0080;
  const halves = new Uint16Array(bytes.buffer, bytes.byteOffset, count);
  for (let i = 0; i < count; i++) carried |= (halves[i] & 0x7fff) + one;
  if ((carried & 0x8000) === 0) return -1;
  return halves.findIndex((half) => (half & exponent) === exponent);
}
