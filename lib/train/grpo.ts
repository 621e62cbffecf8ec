// Phase 2, group relative policy optimization (Shao et al. 2024, arXiv 2402.03300) on System 2, from
// phase 1's adapter, over the elements active for System 2. Names follow TRL's GRPOConfig.
//   1. Sample num_generations completions for each prompt of the step.
//   2. Score them; advantage = (r - mean_group) / (std_group + 1e-4).
//   3. num_iterations updates on the clipped surrogate, less beta times the KL to the starting policy.
// The three losses differ only in a token's weight (`tokenWeights`). Left out: importance sampling by
// sequence, and TRL's optional ratio on the KL term (use_bias_correction_kl), which is not GRPO's.

import type { Tensor } from "../../kernels/gpu/tensor.ts";
import type { Adapter, LoraDropout } from "../lora/adapter.ts";
import { generate } from "../model/generate.ts";
import { type DeviceBatch, pass, releaseBatch, uploadBatch } from "../model/pass.ts";
import type { ChatTokenizer } from "../model/tokenizer.ts";
import { deriveSeed } from "../seeds.ts";
import { type GrpoPrompt, type Rollout, type UpdateBatch, updateBatches } from "./grpo_batches.ts";
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
import { scoreCompletion } from "./rewards.ts";
import type { GrpoSettings } from "./settings.ts";
import { epochs } from "./sft.ts";

/** Trains on prompts. @throws {NumericError} @throws {Cancelled} @throws {GpuError} */
export async function trainGrpo(
  context: PhaseContext,
  prompts: GrpoPrompt[],
  tokenizer: ChatTokenizer,
  settings: GrpoSettings,
): Promise<PhaseResult> {
  const reference = settings.beta > 0 ? snapshot(context) : null;
  try {
    return await takeSteps(context, prompts, tokenizer, settings, reference);
  } finally {
    if (reference) context.gpu.release(reference.phi);
  }
}

/** `reference` is the starting policy that the KL is measured to, where there is one. */
async function takeSteps(
  context: PhaseContext,
  prompts: GrpoPrompt[],
  tokenizer: ChatTokenizer,
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
    const rollouts = await context.turn(() =>
      rollOut(context, chosen, tokenizer, settings, deriveSeed(context.seed, "rollout", step))
    );
    const generationSeconds = (performance.now() - begin) / 1000;
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

/** Samples num_generations completions a prompt, scores them and gives each its advantage. */
async function rollOut(
  { gpu, decoder, adapter, checkCancelled }: PhaseContext,
  prompts: GrpoPrompt[],
  tokenizer: ChatTokenizer,
  settings: GrpoSettings,
  seed: number,
): Promise<Rollout[]> {
  const G = settings.num_generations;
  const sampled = await generate(gpu, { decoder, adapter }, {
    prompts: prompts.map(({ tokens }) => tokens),
    completionsPerPrompt: G,
    maxNewTokens: settings.max_completion_length,
    temperature: settings.temperature,
    topK: settings.top_k,
    topP: settings.top_p,
    minP: settings.min_p,
    seed,
    eosTokens: decoder.config.eosTokens,
  }, { checkCancelled });
  return prompts.flatMap((prompt, p) => {
    const group = sampled.slice(p * G, (p + 1) * G).map(({ tokens, finished }) => {
      const text = tokenizer.decode([...tokens], { skipSpecial: true });
      const { total, each } = scoreCompletion(settings.rewards, text, prompt.sample, {
        tokens: tokens.length,
      });
      return {
        prompt,
        completion: tokens,
        text,
        truncated: !finished,
        reward: total,
        rewards: each,
      };
    });
    const advantages = groupAdvantages(group.map(({ reward }) => reward), settings.scale_rewards);
    return group.map((rollout, i) => ({ ...rollout, advantage: advantages[i] }));
  });
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
  const { prompt, text, reward, rewards, advantage, truncated, completion } = rollout;
  return {
    phase: "grpo",
    step,
    prompt: prompt.sample.prompt,
    answer: prompt.sample.answer,
    completion: text,
    tokens: completion.length,
    truncated,
    reward,
    rewards,
    advantage,
  };
}
