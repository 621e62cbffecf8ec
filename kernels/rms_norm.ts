// RMSNorm (Zhang and Sennrich 2019): y = x / sqrt(mean(x^2) + eps) * weight, over the last axis.
// Serves the block norms (rows T, columns C) and q/k norms (rows T*H, columns D). The weight is
// frozen, so the backward gives dx only; it recomputes the row's scale instead of storing it.

import { f32Word, type Gpu } from "./gpu/gpu.ts";
import type { Kernel } from "./gpu/pipelines.ts";
import { elementCount, requireOwnBuffer, type Tensor } from "./gpu/tensor.ts";
import code from "./rms_norm.wgsl" with { type: "text" };

const workgroupSize = 64;
const kernel = (entryPoint: string): Kernel => ({
  label: `rms_norm.${entryPoint}`,
  code,
  entryPoint,
  constants: { workgroup_size: workgroupSize },
});
const forward = kernel("forward");
const backward = kernel("backward");

function sizes(x: Tensor, weight: Tensor): { rows: number; columns: number } {
  const columns = elementCount(weight.shape);
  if (columns % 4 !== 0 || elementCount(x.shape) % columns !== 0) {
    throw new RangeError(
      `Cannot normalise ${x.label} (${x.shape}) by ${weight.label} (${weight.shape}): ` +
        "the last axis must be the weight's, a multiple of 4",
    );
  }
  return { rows: elementCount(x.shape) / columns, columns };
}

/** y = rmsNorm(x): x (…, C) f32, weight (C) f32, y like x and a tensor of its own. @throws {RangeError} */
export function rmsNorm(
  gpu: Gpu,
  { x, weight, y }: { x: Tensor; weight: Tensor; y: Tensor },
  eps: number,
): void {
  const { rows, columns } = sizes(x, weight);
  requireOwnBuffer(y, x, weight);
  gpu.run(forward, [x, weight, y], gpu.grid(Math.ceil(rows / workgroupSize)), [
    rows,
    columns,
    f32Word(eps),
    0,
  ]);
}

/**
 * dx of rmsNorm, from its input x (…, C) and dy like x; added to dx, a tensor of its own, when
 * `accumulate`.
 * @throws {RangeError}
 */
export function rmsNormBackward(
  gpu: Gpu,
  { x, weight, dy, dx }: { x: Tensor; weight: Tensor; dy: Tensor; dx: Tensor },
  eps: number,
  accumulate = false,
): void {
  const { rows, columns } = sizes(x, weight);
  requireOwnBuffer(dx, x, weight, dy);
  gpu.run(backward, [x, weight, dy, dx], gpu.grid(Math.ceil(rows / workgroupSize)), [
    rows,
    columns,
    f32Word(eps),
    accumulate ? 1 : 0,
  ]);
}
