// The residual connection: y = a + b, elementwise. Its backward is the identity on both sides.

import type { Gpu } from "./gpu/gpu.ts";
import type { Kernel } from "./gpu/pipelines.ts";
import { elementCount, requireOwnBuffer, type Tensor } from "./gpu/tensor.ts";
import code from "./add.wgsl" with { type: "text" };
import index from "./index.wgsl" with { type: "text" };

const workgroupSize = 64;
const forward: Kernel = {
  label: "add.forward",
  code: index + code,
  entryPoint: "forward",
  constants: { workgroup_size: workgroupSize },
};

/** y = a + b: all of one shape, f32, a multiple of 4 elements; y is a tensor of its own. @throws {RangeError} */
export function add(gpu: Gpu, { a, b, y }: { a: Tensor; b: Tensor; y: Tensor }): void {
  const count = elementCount(a.shape) / 4;
  requireOwnBuffer(y, a, b);
  gpu.run(forward, [a, b, y], gpu.grid(Math.ceil(count / workgroupSize)), [count]);
}
