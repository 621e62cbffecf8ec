// SwiGLU (Shazeer 2020): y = silu(gate) * up, elementwise. The backward works in place, because
// nothing needs gate and up afterwards.

import type { Gpu } from "./gpu/gpu.ts";
import type { Kernel } from "./gpu/pipelines.ts";
import { elementCount, requireOwnBuffer, type Tensor } from "./gpu/tensor.ts";
import index from "./index.wgsl" with { type: "text" };
import code from "./swiglu.wgsl" with { type: "text" };

const workgroupSize = 64;
const kernel = (entryPoint: string): Kernel => ({
  label: `swiglu.${entryPoint}`,
  code: index + code,
  entryPoint,
  constants: { workgroup_size: workgroupSize },
});
const forward = kernel("forward");
const backward = kernel("backward");

/** y = silu(gate) * up: all (T, F) f32, F a multiple of 4; y is a tensor of its own. @throws {RangeError} */
export function swiglu(gpu: Gpu, { gate, up, y }: { gate: Tensor; up: Tensor; y: Tensor }): void {
  const count = elementCount(gate.shape) / 4;
  requireOwnBuffer(y, gate, up);
  gpu.run(forward, [gate, up, y], gpu.grid(Math.ceil(count / workgroupSize)), [count]);
}

/** Turns gate into dgate and up into dup, given dy: all (T, F) f32. */
export function swigluBackward(
  gpu: Gpu,
  { gate, up, dy }: { gate: Tensor; up: Tensor; dy: Tensor },
): void {
  const count = elementCount(gate.shape) / 4;
  gpu.run(backward, [gate, up, dy], gpu.grid(Math.ceil(count / workgroupSize)), [count]);
}
