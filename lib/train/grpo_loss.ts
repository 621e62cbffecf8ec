// GRPO's numbers, apart from the sampling: a group's advantages, a token's weight in each of the three
// losses, and the pass that turns them into the adapter's gradient (formulas in kernels/grpo_loss.ts).

import { grpoLoss } from "../../kernels/grpo_loss.ts";
import { rows, type Tensor } from "../../kernels/gpu/tensor.ts";
import type { LoraDropout } from "../lora/adapter.ts";
import { type DeviceBatch, pass } from "../model/pass.ts";
import type { PhaseContext } from "./phase.ts";
import type { GrpoSettings } from "./settings.ts";

/** (r - mean) / (std + 1e-4) with the unbiased std, as TRL; without scaling, r - mean. */
export function groupAdvantages(rewards: number[], scale: boolean): number[] {
  const std = deviationOf(rewards);
  if (std === 0) return rewards.map(() => 0);
  const mean = meanOf(rewards);
  return rewards.map((reward) => (reward - mean) / (scale ? std + 1e-4 : 1));
}

/**
 * What a token of each completion weighs in the loss, by loss_type:
 * grpo 1 / (completions * own length), dr_grpo 1 / (completions * max_completion_length),
 * dapo 1 / (tokens of all completions). A masked (cut off) completion weighs 0, counts as a completion
 * and counts no tokens, as in TRL since 1.9 (before, dapo counted its tokens too: pull request 6439).
 */
export function tokenWeights(
  lengths: number[],
  masked: boolean[],
  settings: Pick<GrpoSettings, "loss_type" | "max_completion_length">,
): number[] {
  const kept = lengths.map((length, i) => masked[i] ? 0 : length);
  const all = Math.max(1, kept.reduce((sum, length) => sum + length, 0));
  return kept.map((length) => {
    if (length === 0) return 0;
    switch (settings.loss_type) {
      case "grpo":
        return 1 / (lengths.length * length);
      case "dr_grpo":
        return 1 / (lengths.length * settings.max_completion_length);
      case "dapo":
        return 1 / all;
    }
  });
}

/** Who is scored: the model and the adapter on it. */
export type ScoredPolicy = Pick<PhaseContext, "gpu" | "decoder" | "adapter">;

export interface GrpoTensors {
  values: Tensor;
  oldValues: Tensor;
  referenceValues: Tensor;
  advantages: Tensor;
  weights: Tensor;
  dlogp: Tensor;
  terms: Tensor;
}

/** Forward, GRPO's loss per chunk of scored rows, and backward into the adapter's gradient. */
export function grpoPass(
  { gpu, decoder, adapter }: ScoredPolicy,
  batch: DeviceBatch,
  tensors: GrpoTensors,
  settings: Pick<GrpoSettings, "epsilon" | "epsilon_high" | "beta" | "temperature">,
  useOld: boolean,
  dropout: LoraDropout | null = null,
): void {
  const { epsilon, epsilon_high: epsilonHigh = epsilon, beta, temperature } = settings;
  const derive = (first: number, count: number) => {
    const part = (tensor: Tensor) => rows(tensor, first, count, 1);
    grpoLoss(gpu, {
      values: part(tensors.values),
      oldValues: useOld ? part(tensors.oldValues) : part(tensors.values),
      referenceValues: beta > 0 ? part(tensors.referenceValues) : part(tensors.values),
      advantages: part(tensors.advantages),
      weights: part(tensors.weights),
      dlogp: part(tensors.dlogp),
      terms: part(tensors.terms),
    }, { epsilon, epsilonHigh, beta, useOld });
  };
  pass(gpu, { decoder, adapter }, { batch, values: tensors.values }, {
    objective: { dlogp: tensors.dlogp, derive },
    dropout,
    temperature,
  });
}

/** 0 for no values. */
export function meanOf(values: number[]): number {
  if (values.length === 0) return 0;
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Unbiased (n - 1), as torch.std; exactly 0 for one value or equal ones, whatever their mean rounds to. */
export function deviationOf(values: number[]): number {
  if (values.every((value) => value === values[0])) return 0;
  const mean = meanOf(values);
  return Math.sqrt(
    values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (values.length - 1),
  );
}
