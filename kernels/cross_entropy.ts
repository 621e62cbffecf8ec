// Cross-entropy over a chunk of logits: logp[t] = log softmax(logits[t] / temperature)[target[t]].
// The backward takes dL/dlogp per row, so SFT, importance and GRPO share it, and it overwrites the
// logits: full logits never exist for more than a chunk.

import { f32Word, type Gpu } from "./gpu/gpu.ts";
import type { Kernel } from "./gpu/pipelines.ts";
import type { Tensor } from "./gpu/tensor.ts";
import code from "./cross_entropy.wgsl" with { type: "text" };

const kernel = (entryPoint: string): Kernel => ({
  label: `cross_entropy.${entryPoint}`,
  code,
  entryPoint,
  constants: { workgroup_size: 64 },
});
const forward = kernel("forward");
const backward = kernel("backward");

export interface LogitsOptions {
  /** Columns that are tokens; the rest pad the row. */
  vocabulary?: number;
  temperature?: number;
}

/**
 * values (M, 4) f32 = (logp, log-sum-exp, entropy, 1 if the target is the largest) of logits (M, V)
 * f32 and targets (M) u32. Only the first `vocabulary` columns count; V is a multiple of 4.
 */
export function crossEntropy(
  gpu: Gpu,
  { logits, targets, values }: { logits: Tensor; targets: Tensor; values: Tensor },
  { vocabulary = logits.shape[1], temperature = 1 }: LogitsOptions = {},
): void {
  const [M, V] = logits.shape;
  gpu.run(forward, [logits, targets, values], gpu.grid(M), [
    M,
    V,
    vocabulary,
    f32Word(temperature),
  ]);
}

/** Turns logits (M, V) into dlogits in place, from crossEntropy's values and dlogp (M) f32. */
export function crossEntropyBackward(
  gpu: Gpu,
  { logits, targets, values, dlogp }: {
    logits: Tensor;
    targets: Tensor;
    values: Tensor;
    dlogp: Tensor;
  },
  { vocabulary = logits.shape[1], temperature = 1 }: LogitsOptions = {},
): void {
  const [M, V] = logits.shape;
  gpu.run(backward, [logits, targets, values, dlogp], gpu.grid(M), [
    M,
    V,
    vocabulary,
    f32Word(temperature),
  ]);
}
