// Phase 2, group relative policy optimization (Shao et al. 2024, arXiv 2402.03300) on System 2, from
// phase 1's adapter, over the elements active for System 2. Names follow TRL's GRPOConfig.
//   1. Sample num_generations completions for each prompt of the step.
//   2. Score them; advantage = (r - mean_group) / (std_group + 1e-4).
//   3. num_iterations updates on the clipped surrogate, less beta times the KL to the starting policy.
// The three losses differ only in a token's weight (`tokenWeights`). Left out: importance sampling by
// sequence, and TRL's optional ratio on the KL term (use_bias_correction_kl), which is not GRPO's.

import type { Tensor } from "../../kernels/gpu/tensor.ts";
import type { Adapter, LoraDropout } from "../lora/adapter.ts";
import { type Completion, generate } from "../model/generate.ts";
import { type DeviceBatch, pass, releaseBatch, uploadBatch } from "../model/pass.ts";
import { deriveSeed } from "../seeds.ts";
import {
  type GrpoPrompt,
  type Rollout,
  type ScoredCompletion,
  type UpdateBatch,
  updateBatches,
} from "./grpo_batches.ts";
import { groupAdvantages, grpoPass, type ScoredPolicy } from "./grpo_loss.ts";
import { rolloutMetrics, updateMetrics } from "./grpo_metrics.ts";
import {
  learningRate,
  passDropout,
  type PhaseContext,
  type PhaseResult,
  requireFinite,
  totalSteps,
} from "./phase.ts";
import type { GrpoSettings } from "./settings.ts";
import { epochs } from "./sft.ts";

/** What the loop needs of whoever knows the texts; here are only tokens and numbers. */
export interface GrpoTexts {
  /** Tokens that end a completion. */
  eosTokens: number[];
  /**
   * The texts and rewards of completions, in order; `prompt` is a prompt's number.
   * @throws {NumericError} when a sum of rewards is NaN or Inf.
   */
  score(completions: { prompt: number; tokens: Uint32Array }[]): Promise<ScoredCompletion[]>;
}

/** Trains on prompts. @throws {NumericError} @throws {Cancelled} @throws {GpuError} */
export async function trainGrpo(
  context: PhaseContext,
  prompts: GrpoPrompt[],
  texts: GrpoTexts,
  settings: GrpoSettings,
): Promise<PhaseResult> {
  const reference = settings.beta > 0 ? snapshot(context) : null;
  try {
    return await takeSteps(context, prompts, texts, settings, reference);
  } finally {
    if (reference) context.gpu.release(reference.phi);
  }
}

/** `reference` is the starting policy that the KL is measured to, where there is one. */
async function takeSteps(
  context: PhaseContext,
  prompts: GrpoPrompt[],
  texts: GrpoTexts,
  settings: GrpoSettings,
  reference: Adapter | null,
): Promise<PhaseResult> {
  const completions = settings.per_device_train_batch_size * settings.gradient_accumulation_steps;
  const promptsPerStep = Math.max(1, Math.floor(completions / settings.num_generations));
  const total = totalSteps(settings, prompts.length, promptsPerStep, settings.num_iterations);
  const batches = epochs(prompts.length, promptsPerStep, deriveSeed(context.seed, "shuffle"));
  let tokens = 0;
  let step = 0;
  let metrics: Record<string, number> = {};

  while (step < total) {
    context.checkCancelled();
    const chosen = batches.next().value.map((index) => prompts[index]);
    const begin = performance.now();
    const seed = deriveSeed(context.seed, "rollout", step);
    const sampled = await context.turn(() =>
      sampleCompletions(context, chosen, texts.eosTokens, settings, seed)
    );
    const generationSeconds = (performance.now() - begin) / 1000;
    // Not in the turn: the GPU is others' while the texts are judged.
    const rollouts = await scoreRollouts(chosen, sampled, texts, settings);
    for (const rollout of rollouts) context.onSample(describeRollout(rollout, step + 1));
    const generated = rollouts.reduce((sum, { completion }) => sum + completion.length, 0);
    const trained = rollouts.reduce(
      (sum, { completion, prompt }) => sum + completion.length + prompt.tokens.length,
      0,
    );

    const updates = updateBatches(rollouts, settings);
    const oldValues: Tensor[] = [];
    try {
      for (let iteration = 0; iteration < settings.num_iterations && step < total; iteration++) {
        const trainingBegin = performance.now();
        const rate = learningRate(settings, step, total);
        const update = await context.turn(() =>
          grpoStep(context, { updates, oldValues, reference, step, iteration }, settings, rate)
        );
        step++;
        tokens += trained;
        metrics = {
          ...update,
          ...rolloutMetrics(rollouts, settings.num_generations),
          learning_rate: rate,
          generation_tokens_per_s: generated / generationSeconds,
          training_tokens_per_s: trained / (performance.now() - trainingBegin) * 1000,
        };
        requireFinite(metrics, "GRPO", step);
        context.onMetrics(step, metrics);
        context.onProgress(step, total);
      }
    } finally {
      context.gpu.release(...oldValues);
    }
    tokens += generated;
  }
  return { steps: total, tokens, metrics };
}

/** The policy as it is now, frozen: what the KL is measured to. */
function snapshot({ gpu, adapter }: PhaseContext): Adapter {
  const phi = gpu.tensor("grpo.reference", adapter.phi.shape);
  gpu.copy(adapter.phi, phi);
  return { ...adapter, phi, grad: null };
}

/** Samples num_generations completions of each prompt, prompt after prompt. */
function sampleCompletions(
  { gpu, decoder, adapter, checkCancelled }: PhaseContext,
  prompts: GrpoPrompt[],
  eosTokens: number[],
  settings: GrpoSettings,
  seed: number,
): Promise<Completion[]> {
  return generate(gpu, { decoder, adapter }, {
    prompts: prompts.map(({ tokens }) => tokens),
    completionsPerPrompt: settings.num_generations,
    maxNewTokens: settings.max_completion_length,
    temperature: settings.temperature,
    topK: settings.top_k,
    topP: settings.top_p,
    minP: settings.min_p,
    seed,
    eosTokens,
  }, { checkCancelled });
}

/** Has completions scored and gives each its advantage in the group of its prompt. */
async function scoreRollouts(
  prompts: GrpoPrompt[],
  sampled: Completion[],
  texts: GrpoTexts,
  { num_generations: G, scale_rewards }: GrpoSettings,
): Promise<Rollout[]> {
  const promptOf = (i: number) => prompts[Math.floor(i / G)];
  const scored = await texts.score(
    sampled.map(({ tokens }, i) => ({ prompt: promptOf(i).number, tokens })),
  );
  const advantages = prompts.flatMap((_, p) =>
    groupAdvantages(scored.slice(p * G, (p + 1) * G).map(({ reward }) => reward), scale_rewards)
  );
  return scored.map((score, i) => ({
    ...score,
    prompt: promptOf(i),
    completion: sampled[i].tokens,
    truncated: !sampled[i].finished,
    advantage: advantages[i],
  }));
}

/**
 * One optimizer step on a rollout. The first iteration's policy is the one that sampled, so its ratio
 * is 1; its values are kept in `oldValues` when more iterations follow.
 */
async function grpoStep(
  { gpu, decoder, adapter, optimizer, seed }: PhaseContext,
  { updates, oldValues, reference, step, iteration }: {
    updates: UpdateBatch[];
    oldValues: Tensor[];
    reference: Adapter | null;
    step: number;
    iteration: number;
  },
  settings: GrpoSettings,
  rate: number,
): Promise<Record<string, number>> {
  const scored = gpu.scope(() => {
    gpu.clear(adapter.grad!);
    const all = updates.map(scoreUpdate);
    optimizer.step(rate);
    return all;
  });
  const allTerms = scored.flatMap(({ terms }) => terms ?? []);
  const allValues = scored.map(({ values }) => values);
  const [outcome, ...read] = await gpu.readWords([optimizer.gradNorm, ...allValues, ...allTerms])
    .catch((error) => {
      gpu.release(...allValues);
      throw error;
    })
    .finally(() => gpu.release(...allTerms));
  const kept = iteration === 0 && settings.num_iterations > 1 ? allTerms.length : 0;
  oldValues.push(...allValues.slice(0, kept));
  gpu.release(...allValues.slice(kept));

  // Passes that move come first, so the terms are those of the first passes.
  const words = read.map((buffer) => new Float32Array(buffer));
  const metrics = updateMetrics(
    updates.map((update, number) => ({
      update,
      values: words[number],
      terms: words[allValues.length + number] ?? null,
    })),
    settings.beta,
  );
  return { ...metrics, grad_norm: new Float32Array(outcome)[0] };

  function context(policy: Adapter) {
    return { gpu, decoder, adapter: policy };
  }

  function scoreUpdate(update: UpdateBatch, number: number) {
    const batch = uploadBatch(gpu, decoder, update.packed);
    const dropout = passDropout(settings, seed, step, number);
    if (!update.moves) {
      const values = scoreOnly(context(adapter), batch, settings.temperature, dropout);
      releaseBatch(gpu, batch);
      return { values, terms: null };
    }
    const referenceValues = reference
      ? scoreOnly(context(reference), batch, settings.temperature)
      : null;
    const values = gpu.tensor("grpo.values", [batch.M, 4]);
    const terms = gpu.tensor("grpo.terms", [batch.M, 4]);
    const tensors = {
      values,
      oldValues: oldValues[number] ?? values,
      referenceValues: referenceValues ?? values,
      advantages: gpu.upload("grpo.advantages", update.advantages),
      weights: gpu.upload("grpo.weights", update.weights),
      dlogp: gpu.tensor("grpo.dlogp", [batch.M]),
      terms,
    };
    grpoPass(context(adapter), batch, tensors, settings, iteration > 0, dropout);
    gpu.release(tensors.advantages, tensors.weights, tensors.dlogp);
    if (referenceValues) gpu.release(referenceValues);
    releaseBatch(gpu, batch);
    return { values, terms };
  }
}

/** values (M, 4) of the batch under a policy, without gradients. */
function scoreOnly(
  { gpu, decoder, adapter }: ScoredPolicy,
  batch: DeviceBatch,
  temperature: number,
  dropout: LoraDropout | null = null,
): Tensor {
  const values = gpu.tensor("grpo.scored_values", [batch.M, 4]);
  pass(gpu, { decoder, adapter }, { batch, values }, { temperature, dropout });
  return values;
}

function describeRollout(rollout: Rollout, step: number): Record<string, unknown> {
  const { sample, text, reward, rewards, advantage, truncated, completion } = rollout;
  return {
    phase: "grpo",
    step,
    prompt: sample.prompt,
    answer: sample.answer,
    completion: text,
    tokens: completion.length,
    truncated,
    reward,
    rewards,
    advantage,
  };
}
