// Dropout (Srivastava et al. 2014) on LoRA's input, as PEFT does: y = x * mask / (1 - p). The backward
// is the same mask on dy, so one kernel serves both.

import { f32Word, type Gpu } from "./gpu/gpu.ts";
import type { Kernel } from "./gpu/pipelines.ts";
import { elementCount, requireOwnBuffer, type Tensor } from "./gpu/tensor.ts";
import code from "./dropout.wgsl" with { type: "text" };
import index from "./index.wgsl" with { type: "text" };

const workgroupSize = 64;
const forward: Kernel = {
  label: "dropout.forward",
  code: index + code,
  entryPoint: "forward",
  constants: { workgroup_size: workgroupSize },
};

/**
 * y (+)= x * mask(seed) / (1 - p): x, y f32 of one shape, a multiple of 4; 0 <= p < 1; y is a tensor
 * of its own.
 * @throws {RangeError}
 */
export function dropout(
  gpu: Gpu,
  { x, y }: { x: Tensor; y: Tensor },
  { p, seed, accumulate = false }: { p: number; seed: number; accumulate?: boolean },
): void {
  const count = elementCount(x.shape) / 4;
  requireOwnBuffer(y, x);
  gpu.run(forward, [x, y], gpu.grid(Math.ceil(count / workgroupSize)), [
    count,
    seed >>> 0,
    Math.round(p * 2 ** 32) >>> 0,
    f32Word(1 / (1 - p)),
    accumulate ? 1 : 0,
  ]);
}
