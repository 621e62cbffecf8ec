// L2 norm of the gradient over the active elements and the clip coefficient of
// torch.nn.utils.clip_grad_norm_: min(1, max_grad_norm / (norm + 1e-6)). Nothing is read back.
// A gradient that is NaN or Inf, or whose squares overflow f32 (beyond 1e19), marks the step as
// not to be taken.

import type { Gpu } from "./gpu/gpu.ts";
import type { Kernel } from "./gpu/pipelines.ts";
import type { Tensor } from "./gpu/tensor.ts";
import code from "./grad_norm.wgsl" with { type: "text" };

const squares: Kernel = { label: "grad_norm.squares", code, entryPoint: "squares" };
const finish: Kernel = { label: "grad_norm.finish", code, entryPoint: "finish" };

/**
 * outcome (4) f32 from g (E) f32 at indices (n) u32: norm, clip coefficient, 1 where the step must
 * not be taken, and how many were refused so far. hyper (8) f32 is adamw.ts's.
 */
export function gradNorm(
  gpu: Gpu,
  { g, indices, hyper, outcome }: {
    g: Tensor;
    indices: Tensor;
    hyper: Tensor;
    outcome: Tensor;
  },
  count: number,
): void {
  const groups = Math.max(1, Math.min(gpu.facts.software ? 16 : 256, Math.ceil(count / 64)));
  const partials = gpu.tensor("grad_norm.partials", [groups, 2]);
  gpu.run(squares, [g, indices, partials], [groups], [count, groups]);
  gpu.run(finish, [partials, hyper, outcome], [1], [count, groups]);
  gpu.release(partials);
}
