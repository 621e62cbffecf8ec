// Picks the rows that are scored out of the packed token axis before the head, and puts their
// gradients back. Numbers are unique, so the backward of a gather is a scatter without sums.

import type { Gpu } from "./gpu/gpu.ts";
import type { Kernel } from "./gpu/pipelines.ts";
import { elementCount, requireOwnBuffer, type Tensor } from "./gpu/tensor.ts";
import index from "./index.wgsl" with { type: "text" };
import code from "./rows.wgsl" with { type: "text" };

const workgroupSize = 64;
const kernel = (entryPoint: string): Kernel => ({
  label: `rows.${entryPoint}`,
  code: index + code,
  entryPoint,
  constants: { workgroup_size: workgroupSize },
});
const gather = kernel("gather");
const scatter = kernel("scatter");

/** y (M, C) = rows `numbers` (M) u32 of x (T, C) f32; y is a tensor of its own. @throws {RangeError} */
export function gatherRows(
  gpu: Gpu,
  { x, numbers, y }: { x: Tensor; numbers: Tensor; y: Tensor },
): void {
  const count = elementCount(y.shape) / 4;
  const columns = y.shape[y.shape.length - 1] / 4;
  requireOwnBuffer(y, x);
  gpu.run(gather, [x, numbers, y], gpu.grid(Math.ceil(count / workgroupSize)), [count, columns]);
}

/**
 * Writes x (M, C) to rows `numbers` (M) u32 of y (T, C) f32, a tensor of its own; the other rows stay
 * as they are.
 * @throws {RangeError}
 */
export function scatterRows(
  gpu: Gpu,
  { x, numbers, y }: { x: Tensor; numbers: Tensor; y: Tensor },
): void {
  const count = elementCount(x.shape) / 4;
  const columns = x.shape[x.shape.length - 1] / 4;
  requireOwnBuffer(y, x);
  gpu.run(scatter, [x, numbers, y], gpu.grid(Math.ceil(count / workgroupSize)), [count, columns]);
}
