// Phase 1, supervised fine-tuning (LoRA-PAR, section 3.3): cross-entropy on answer tokens only, over
// the elements that are active for System 1. As Transformers' Trainer with gradient accumulation, the
// loss of a step is the mean over all answer tokens of its samples, however they are packed.

import { pack, planBatches, shuffledOrder } from "../data/pack.ts";
import type { RenderedSample } from "../data/render.ts";
import { pass, releaseBatch, uploadBatch } from "../model/pass.ts";
import { deriveSeed } from "../seeds.ts";
import {
  learningRate,
  passDropout,
  type PhaseContext,
  type PhaseResult,
  requireFinite,
  tokensPerPass,
  totalSteps,
} from "./phase.ts";
import type { SftSettings } from "./settings.ts";

/** Trains on rendered samples. @throws {NumericError} @throws {Cancelled} @throws {GpuError} */
export async function trainSft(
  context: PhaseContext,
  samples: RenderedSample[],
  settings: SftSettings,
): Promise<PhaseResult> {
  const perStep = settings.per_device_train_batch_size * settings.gradient_accumulation_steps;
  const total = totalSteps(settings, samples.length, perStep);
  const batches = epochs(samples.length, perStep, deriveSeed(context.seed, "shuffle"));
  let tokens = 0;
  let metrics: Record<string, number> = {};

  for (let step = 0; step < total; step++) {
    context.checkCancelled();
    const chosen = batches.next().value.map((index) => samples[index]);
    const rate = learningRate(settings, step, total);
    const begin = performance.now();
    const { loss, accuracy, gradNorm } = await context.turn(() =>
      sftStep(context, chosen, settings, { step, rate })
    );
    const stepTokens = chosen.reduce((sum, sample) => sum + sample.tokens.length, 0);
    tokens += stepTokens;
    metrics = {
      loss,
      mean_token_accuracy: accuracy,
      grad_norm: gradNorm,
      learning_rate: rate,
      tokens_per_s: stepTokens / (performance.now() - begin) * 1000,
    };
    requireFinite(metrics, "SFT", step + 1);
    context.onMetrics(step + 1, metrics);
    context.onProgress(step + 1, total);
  }
  return { steps: total, tokens, metrics };
}

/** One optimizer step over `samples`: gradients of all of them, then AdamW. */
async function sftStep(
  { gpu, decoder, adapter, optimizer, seed }: PhaseContext,
  samples: RenderedSample[],
  settings: SftSettings,
  { step, rate }: { step: number; rate: number },
): Promise<{ loss: number; accuracy: number; gradNorm: number }> {
  const plan = planBatches(samples.map(({ tokens }) => tokens.length), {
    maxTokens: tokensPerPass,
    order: "longest_first",
  });
  const packed = plan.map((indices) => pack(indices.map((index) => samples[index])));
  const answerTokens = packed.reduce((sum, { lossPositions }) => sum + lossPositions.length, 0);

  const scored = gpu.scope(() => {
    gpu.clear(adapter.grad!);
    const all = packed.map((one, number) => {
      const batch = uploadBatch(gpu, decoder, one);
      const values = gpu.tensor("sft.values", [batch.M, 4]);
      const dlogp = gpu.upload("sft.dlogp", new Float32Array(batch.M).fill(-1 / answerTokens));
      pass(gpu, { decoder, adapter }, { batch, values }, {
        objective: { dlogp },
        dropout: passDropout(settings, seed, step, number),
      });
      gpu.release(dlogp);
      releaseBatch(gpu, batch);
      return values;
    });
    optimizer.step(rate);
    return all;
  });
  const [outcome, ...values] = await gpu.readWords([optimizer.gradNorm, ...scored])
    .finally(() => gpu.release(...scored));

  let loss = 0, hits = 0;
  for (const rows of values.map((words) => new Float32Array(words))) {
    for (let i = 0; i < rows.length; i += 4) {
      loss -= rows[i] / answerTokens;
      hits += rows[i + 3];
    }
  }
  return { loss, accuracy: hits / answerTokens, gradNorm: new Float32Array(outcome)[0] };
}

/** Indices of the next `perStep` samples, epoch after epoch, each in an order of its own. */
export function* epochs(
  count: number,
  perStep: number,
  seed: number,
): Generator<number[], never> {
  for (let epoch = 0;; epoch++) {
    const order = shuffledOrder(count, seed, epoch);
    for (let first = 0; first < count; first += perStep) {
      yield [...order.subarray(first, first + perStep)];
    }
  }
}
