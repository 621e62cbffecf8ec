// GRPO's metrics, by the names and definitions of TRL 1.16 (GRPOTrainer). Those of an update are means
// over every token of the completions that count, those of equal rewards included: such a group moves
// nothing, but a policy that has collapsed shows in it first. Truncated completions do not count where
// they are masked. `clip_fraction` is our older name of clip_ratio/region_mean. Left out: what TRL
// reports of tools, of vLLM and of the losses that are not here.

import type { Rollout, UpdateBatch } from "./grpo_batches.ts";
import { deviationOf, meanOf } from "./grpo_loss.ts";

/** What a pass of an update gave, on the CPU. */
export interface ScoredUpdate {
  update: UpdateBatch;
  /** (M, 4) log-probability, log-sum-exp, entropy, whether the target is the largest. */
  values: Float32Array;
  /** (M, 4) weighted loss, kl, whether clipped, ratio; null where the gradient is zero for sure. */
  terms: Float32Array | null;
}

/**
 * Loss, entropy, KL and clipping of one optimizer step. `kl` is there where the loss has it (beta > 0);
 * without a single token that counts, only the loss is.
 */
export function updateMetrics(scored: ScoredUpdate[], beta: number): Record<string, number> {
  let loss = 0, kl = 0, entropy = 0, tokens = 0;
  let low = 0, high = 0, lowMin = Infinity, highMax = 0;
  for (const { update: { packed, advantages }, values, terms } of scored) {
    const completions = packed.segmentStarts.length - 1;
    const count = new Float64Array(completions);
    const clippedLow = new Float64Array(completions);
    const clippedHigh = new Float64Array(completions);
    for (const [row, segment] of packed.lossSegments.entries()) {
      count[segment]++;
      entropy += values[4 * row + 2];
      if (!terms) continue;
      loss += terms[4 * row];
      kl += terms[4 * row + 1];
      if (terms[4 * row + 2] === 0) continue;
      if (advantages[row] < 0) clippedLow[segment]++;
      else clippedHigh[segment]++;
    }
    for (let segment = 0; segment < completions; segment++) {
      tokens += count[segment];
      low += clippedLow[segment];
      high += clippedHigh[segment];
      lowMin = Math.min(lowMin, clippedLow[segment] / count[segment]);
      highMax = Math.max(highMax, clippedHigh[segment] / count[segment]);
    }
  }
  if (tokens === 0) return { loss };
  return {
    loss,
    ...(beta > 0 ? { kl: kl / tokens } : {}),
    entropy: entropy / tokens,
    clip_fraction: (low + high) / tokens,
    "clip_ratio/low_mean": low / tokens,
    "clip_ratio/low_min": lowMin,
    "clip_ratio/high_mean": high / tokens,
    "clip_ratio/high_max": highMax,
    "clip_ratio/region_mean": (low + high) / tokens,
  };
}

/** Rewards and lengths of one rollout of groups of `groupSize` completions. */
export function rolloutMetrics(rollouts: Rollout[], groupSize: number): Record<string, number> {
  const rewards = rollouts.map(({ reward }) => reward);
  const groups = Array.from(
    { length: rollouts.length / groupSize },
    (_, g) => deviationOf(rewards.slice(g * groupSize, (g + 1) * groupSize)),
  );
  const lengths = rollouts.map(({ completion }) => completion.length);
  const ended = rollouts.filter(({ truncated }) => !truncated)
    .map(({ completion }) => completion.length);
  const metrics: Record<string, number> = {
    reward: meanOf(rewards),
    reward_std: deviationOf(rewards),
    frac_reward_zero_std: meanOf(groups.map((std) => std === 0 ? 1 : 0)),
    "completions/clipped_ratio": 1 - ended.length / rollouts.length,
    ...lengthMetrics("length", lengths),
    ...lengthMetrics("terminated_length", ended),
  };
  for (const name of Object.keys(rollouts[0].rewards)) {
    const values = rollouts.map((rollout) => rollout.rewards[name]);
    metrics[`rewards/${name}/mean`] = meanOf(values);
    metrics[`rewards/${name}/std`] = deviationOf(values);
  }
  return metrics;
}

/** 0 for no completions, as TRL. */
function lengthMetrics(name: string, lengths: number[]): Record<string, number> {
  const smallest = lengths.reduce((least, length) => Math.min(least, length), Infinity);
  return {
    [`completions/mean_${name}`]: meanOf(lengths),
    [`completions/min_${name}`]: lengths.length === 0 ? 0 : smallest,
    [`completions/max_${name}`]: lengths.reduce((most, length) => Math.max(most, length), 0),
  };
}
