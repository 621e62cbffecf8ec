// GRPO's token loss (Shao et al. 2024, eq. 3; clip-higher as in DAPO): the clipped surrogate plus the
// k3 estimate of the KL to the reference. What differs between the losses grpo, dr_grpo and dapo is
// only each token's weight (lib/train/grpo.ts), so one kernel serves all three.

import { f32Word, type Gpu } from "./gpu/gpu.ts";
import type { Kernel } from "./gpu/pipelines.ts";
import type { Tensor } from "./gpu/tensor.ts";
import code from "./grpo_loss.wgsl" with { type: "text" };
import index from "./index.wgsl" with { type: "text" };

const workgroupSize = 64;
const forward: Kernel = {
  label: "grpo_loss.forward",
  code: index + code,
  entryPoint: "forward",
  constants: { workgroup_size: workgroupSize },
};

export interface GrpoLossTensors {
  /** (M, 4) f32 each, from crossEntropy under the new, the old and the reference policy. */
  values: Tensor;
  /** Not read when `useOld` is false: the ratio is then 1. */
  oldValues: Tensor;
  /** Not read when beta is 0. */
  referenceValues: Tensor;
  /** (M) f32 */
  advantages: Tensor;
  /** (M) f32: each token's share of the loss, 0 where masked. */
  weights: Tensor;
  /** (M) f32, written. */
  dlogp: Tensor;
  /** (M, 4) f32, written: weighted loss, kl, clipped (0 or 1), ratio. */
  terms: Tensor;
}

/** Writes dlogp and terms of each scored token. beta 0 leaves the KL out. */
export function grpoLoss(
  gpu: Gpu,
  tensors: GrpoLossTensors,
  { epsilon, epsilonHigh, beta, useOld }: {
    epsilon: number;
    epsilonHigh: number;
    beta: number;
    useOld: boolean;
  },
): void {
  const count = tensors.dlogp.shape[0];
  const { values, oldValues, referenceValues, advantages, weights, dlogp, terms } = tensors;
  gpu.run(
    forward,
    [values, oldValues, referenceValues, advantages, weights, dlogp, terms],
    gpu.grid(Math.ceil(count / workgroupSize)),
    [count, f32Word(epsilon), f32Word(epsilonHigh), f32Word(beta), useOld ? 1 : 0],
  );
}
