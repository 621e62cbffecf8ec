// What a GRPO update works on: sampled completions with their advantages, packed into passes.

import { pack, type PackedBatch, planBatches } from "../data/pack.ts";
import type { Message } from "../data/record.ts";
import { tokenWeights } from "./grpo_loss.ts";
import { tokensPerPass } from "./phase.ts";
import type { GrpoSettings } from "./settings.ts";

/** A prompt by its number among the phase's, which whoever scores its completions knows too. */
export interface GrpoPrompt {
  number: number;
  tokens: Uint32Array;
}

/** What a rollout's event shows of its sample; long texts may be cut. */
export interface ShownSample {
  prompt: Message[];
  answer: string | null;
}

/** A completion as its text was judged. */
export interface ScoredCompletion {
  text: string;
  /** The weighted sum. */
  reward: number;
  /** Each reward before its weight. */
  rewards: Record<string, number>;
  sample: ShownSample;
}

/** A sampled completion with what became of it. */
export interface Rollout extends ScoredCompletion {
  prompt: GrpoPrompt;
  /** Ends with an end-of-turn token unless cut off. */
  completion: Uint32Array;
  truncated: boolean;
  advantage: number;
}

/** A pass of completions with its per-token advantages and weights. */
export interface UpdateBatch {
  packed: PackedBatch;
  /** False where the gradient is zero for sure: the pass is scored for the metrics, without a backward. */
  moves: boolean;
  /** (M) f32 each. */
  advantages: Float32Array<ArrayBuffer>;
  weights: Float32Array<ArrayBuffer>;
}

/**
 * Packs completions for the update, those that move the policy first. A completion of zero advantage
 * moves it through the KL only, but its tokens belong to entropy and clipping all the same: it costs a
 * forward pass, about a third of what a moving one does. Masked completions are left out.
 */
export function updateBatches(rollouts: Rollout[], settings: GrpoSettings): UpdateBatch[] {
  const weights = tokenWeights(
    rollouts.map(({ completion }) => completion.length),
    rollouts.map(({ truncated }) => truncated && settings.mask_truncated_completions),
    settings,
  );
  const counted = rollouts.map((rollout, i) => ({ ...rollout, weight: weights[i] }))
    .filter(({ weight }) => weight > 0);
  const batches = (moves: boolean): UpdateBatch[] => {
    const chosen = counted.filter(({ advantage }) =>
      (advantage !== 0 || settings.beta > 0) === moves
    );
    const segments = chosen.map(({ prompt, completion }) => ({
      tokens: Uint32Array.from([...prompt.tokens, ...completion]),
      promptLength: prompt.tokens.length,
    }));
    const plan = planBatches(segments.map(({ tokens }) => tokens.length), {
      maxTokens: tokensPerPass,
      order: "longest_first",
    });
    return plan.map((indices) => {
      const packed = pack(indices.map((index) => segments[index]));
      const owner = (s: number) => chosen[indices[s]];
      return {
        packed,
        moves,
        advantages: Float32Array.from(packed.lossSegments, (s) => owner(s).advantage),
        weights: Float32Array.from(packed.lossSegments, (s) => owner(s).weight),
      };
    });
  };
  return [...batches(true), ...batches(false)];
}
