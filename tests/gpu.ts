// What kernel tests share: one device a test process, seeded values, guard words, and NMSE.

import { type Gpu, openGpu } from "../kernels/gpu/gpu.ts";
import type { Tensor } from "../kernels/gpu/tensor.ts";
import { nmse } from "../kernels/reference/random.ts";

export { nmse, normal } from "../kernels/reference/random.ts";

let opened: Promise<Gpu> | null = null;

/** The device all tests of a process share. */
export function testGpu(): Promise<Gpu> {
  return opened ??= openGpu();
}

/** Throws unless `found` is within `limit` NMSE of `wanted` (STYLE.md: 1e-7 in f32). */
export function assertClose(
  found: ArrayLike<number>,
  wanted: ArrayLike<number>,
  limit = 1e-7,
  what = "values",
): void {
  const error = nmse(found, wanted);
  if (!(error <= limit)) {
    throw new Error(`${what} are off: NMSE ${error.toExponential(2)}, limit ${limit}`);
  }
}

const guardWord = 0x7fc0dead;
const guardWords = 64;

/**
 * A tensor filled with a NaN pattern, with guard words behind it in the same buffer. The tensor
 * as bound ends at the shape's size, so `assertGuards` sees any write past it.
 */
export function guarded(gpu: Gpu, label: string, shape: readonly number[]): Tensor {
  const count = shape.reduce((product, size) => product * size, 1);
  const whole = gpu.tensor(label, [count + guardWords]);
  gpu.write(whole, new Uint32Array(count + guardWords).fill(guardWord));
  return { ...whole, shape };
}

/** Reads a guarded tensor's values and checks its guard words. */
export async function readGuarded(gpu: Gpu, tensor: Tensor): Promise<Float32Array<ArrayBuffer>> {
  const [words] = await gpu.readWords([tensor]);
  const count = tensor.shape.reduce((product, size) => product * size, 1);
  const guards = new Uint32Array(words, count * 4);
  if (guards.length !== guardWords || guards.some((word) => word !== guardWord)) {
    throw new Error(`${tensor.label} (${tensor.shape}) was written past its end`);
  }
  return new Float32Array(words, 0, count);
}
