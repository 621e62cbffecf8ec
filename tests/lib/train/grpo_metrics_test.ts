import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { pack } from "../../../lib/data/pack.ts";
import type { Rollout, UpdateBatch } from "../../../lib/train/grpo_batches.ts";
import { rolloutMetrics, updateMetrics } from "../../../lib/train/grpo_metrics.ts";

/** Completions of the given lengths, each token's advantage that of its completion. */
function batchOf(lengths: number[], advantages: number[], moves = true): UpdateBatch {
  const packed = pack(
    lengths.map((length) => ({ tokens: new Uint32Array(2 + length), promptLength: 2 })),
  );
  return {
    packed,
    moves,
    advantages: Float32Array.from(packed.lossSegments, (s) => advantages[s]),
    weights: new Float32Array(packed.lossSegments.length).fill(1),
  };
}

/** (M, 4) rows with one column filled in. */
function rows(column: number, values: number[]): Float32Array {
  const all = new Float32Array(values.length * 4);
  values.forEach((value, i) => all[4 * i + column] = value);
  return all;
}

Deno.test("updateMetrics: entropy is a mean over all tokens, those of equal rewards included", () => {
  const scored = [
    {
      update: batchOf([1, 2], [1, -1]),
      values: rows(2, [1, 2, 3]),
      terms: rows(0, [0.5, 0.25, -1]),
    },
    { update: batchOf([3], [0], false), values: rows(2, [4, 5, 6]), terms: null },
  ];
  const metrics = updateMetrics(scored, 0);
  assertEquals([metrics.loss, metrics.entropy], [-0.25, 3.5]);
  assert(!("kl" in metrics), "without beta nothing is measured to the reference");
  // Where every group is of equal rewards, the policy may still be as undecided as it was.
  assertStrictEquals(updateMetrics(scored.slice(1), 0).entropy, 5);
  assertEquals(updateMetrics([], 0), { loss: 0 });
});

Deno.test("updateMetrics: clipping below counts with a negative advantage, above with a positive", () => {
  // Per completion 1 of 2, 2 of 2 and 0 of 4 are clipped; the last completion is of equal rewards.
  const terms = rows(2, [1, 0, 1, 1, 0, 0, 0, 0]);
  terms.set(rows(1, [1, 1, 1, 1, 2, 2, 2, 2]).map((kl, i) => kl + terms[i]));
  const metrics = updateMetrics([
    { update: batchOf([2, 2, 4], [-1, 1, -1]), values: rows(2, new Array(8).fill(0)), terms },
    { update: batchOf([2], [0], false), values: rows(2, [0, 0]), terms: null },
  ], 0.1);
  assertEquals(metrics, {
    loss: 0,
    kl: 12 / 10,
    entropy: 0,
    clip_fraction: 3 / 10,
    "clip_ratio/low_mean": 1 / 10,
    "clip_ratio/low_min": 0,
    "clip_ratio/high_mean": 2 / 10,
    "clip_ratio/high_max": 1,
    "clip_ratio/region_mean": 3 / 10,
  });
});

function rollout(reward: number, tokens: number, truncated: boolean): Rollout {
  return {
    prompt: { number: 0, tokens: new Uint32Array(1) },
    sample: { prompt: [], answer: null },
    completion: new Uint32Array(tokens),
    text: "",
    truncated,
    reward,
    rewards: { integer: reward },
    advantage: 0,
  };
}

Deno.test("rolloutMetrics: rewards and lengths as TRL reports them", () => {
  const metrics = rolloutMetrics(
    [rollout(1, 4, false), rollout(3, 8, true), rollout(2, 3, false), rollout(2, 8, true)],
    2,
  );
  assertEquals(metrics, {
    reward: 2,
    // Of all rewards, not the mean of the groups' deviations.
    reward_std: Math.sqrt(2 / 3),
    frac_reward_zero_std: 0.5,
    "completions/clipped_ratio": 0.5,
    "completions/mean_length": 5.75,
    "completions/min_length": 3,
    "completions/max_length": 8,
    "completions/mean_terminated_length": 3.5,
    "completions/min_terminated_length": 3,
    "completions/max_terminated_length": 4,
    "rewards/integer/mean": 2,
    "rewards/integer/std": Math.sqrt(2 / 3),
  });
  const cut = rolloutMetrics([rollout(0, 8, true), rollout(0, 8, true)], 2);
  assertEquals(
    ["mean", "min", "max"].map((name) => cut[`completions/${name}_terminated_length`]),
    [0, 0, 0],
  );
});

Deno.test("rolloutMetrics: a large rollout does not overflow the stack", () => {
  const many = new Array(400_000).fill(rollout(0, 5, false));
  assertStrictEquals(rolloutMetrics(many, 2)["completions/max_length"], 5);
});
