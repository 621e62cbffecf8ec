// How good a policy is on held-out samples: its greedy (or sampled) answers, for a grader to judge one by
// one, and the loss on the answers it should have given.

import { pack, planBatches } from "../data/pack.ts";
import type { RenderedSample } from "../data/render.ts";
import { type Completion, generate, type GenerateHooks } from "../model/generate.ts";
import { pass, type Policy, releaseBatch, uploadBatch } from "../model/pass.ts";
import { deriveSeed } from "../seeds.ts";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import { tokensPerPass } from "./phase.ts";

/** Prompts generated side by side. */
const batchSize = 32;

/**
 * Answers every prompt, in order. `onAnswers` takes the answers to the prompts from number `first` on, while
 * the GPU is others'.
 */
export async function answerAll(
  gpu: Gpu,
  policy: Policy,
  prompts: Uint32Array[],
  { maxTokens, temperature, seed, eosTokens }: {
    maxTokens: number;
    temperature: number;
    seed: number;
    eosTokens: number[];
  },
  hooks: GenerateHooks & { onAnswers(first: number, answers: Completion[]): Promise<void> },
): Promise<void> {
  for (let first = 0; first < prompts.length; first += batchSize) {
    const answers = await generate(gpu, policy, {
      prompts: prompts.slice(first, first + batchSize),
      completionsPerPrompt: 1,
      maxNewTokens: maxTokens,
      temperature,
      topK: 0,
      topP: 1,
      minP: 0,
      seed: deriveSeed(seed, "batch", first),
      eosTokens,
    }, hooks);
    await hooks.onAnswers(first, answers);
  }
}

/** Mean negative log-likelihood of all answer tokens, dropout off. */
export async function meanLoss(
  gpu: Gpu,
  policy: Policy,
  samples: RenderedSample[],
  { turn, checkCancelled }: Required<Pick<GenerateHooks, "turn" | "checkCancelled">>,
): Promise<number> {
  const plan = planBatches(samples.map(({ tokens }) => tokens.length), {
    maxTokens: tokensPerPass,
  });
  let loss = 0, count = 0;
  for (const indices of plan) {
    checkCancelled();
    const packed = pack(indices.map((index) => samples[index]));
    const rows = await turn(async () => {
      const values = gpu.scope(() => {
        const batch = uploadBatch(gpu, policy.decoder, packed);
        const scored = gpu.tensor("evaluate.values", [batch.M, 4]);
        pass(gpu, policy, { batch, values: scored });
        releaseBatch(gpu, batch);
        return scored;
      });
      return await gpu.readFloats(values).finally(() => gpu.release(values));
    });
    for (let i = 0; i < rows.length; i += 4) loss -= rows[i];
    count += packed.lossPositions.length;
  }
  return loss / count;
}
