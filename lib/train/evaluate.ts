// How good a policy is on held-out samples: its greedy (or sampled) answers, for a grader to judge one by
// one, and the loss on the answers it should have given.

import { pack, planBatches } from "../data/pack.ts";
import { promptPositions, type RenderedSample, renderPrompts } from "../data/render.ts";
import type { Sample } from "../data/record.ts";
import type { ModelConfig } from "../model/config.ts";
import { generate, type GenerateHooks } from "../model/generate.ts";
import { pass, type Policy, releaseBatch, uploadBatch } from "../model/pass.ts";
import type { ChatTokenizer } from "../model/tokenizer.ts";
import { deriveSeed } from "../seeds.ts";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import { tokensPerPass } from "./phase.ts";

/** Prompts generated side by side. */
const batchSize = 32;

export interface Answer {
  sample: Sample;
  text: string;
  tokens: number;
  truncated: boolean;
}

/**
 * The prompts of samples that are to be answered in `maxTokens`.
 * @throws {InvalidRequest} when one leaves the model no room for that.
 */
export function answerPrompts(
  samples: Sample[],
  tokenizer: ChatTokenizer,
  config: ModelConfig,
  { maxTokens, systemPrompt }: { maxTokens: number; systemPrompt: string | null },
): Uint32Array[] {
  const positions = promptPositions(config, maxTokens, "max_tokens");
  return renderPrompts(samples, tokenizer, {
    maxPromptLength: Infinity,
    positions,
    systemPrompt,
  }).samples;
}

/** Answers every sample, in order; `onAnswers` takes how many are done. */
export async function answerAll(
  gpu: Gpu,
  policy: Policy,
  tokenizer: ChatTokenizer,
  samples: Sample[],
  { maxTokens, temperature, seed, systemPrompt }: {
    maxTokens: number;
    temperature: number;
    seed: number;
    systemPrompt: string | null;
  },
  hooks: GenerateHooks & { onAnswers(done: number, total: number): void },
): Promise<Answer[]> {
  const { config } = policy.decoder;
  const prompts = answerPrompts(samples, tokenizer, config, { maxTokens, systemPrompt });
  const answers: Answer[] = [];
  for (let first = 0; first < samples.length; first += batchSize) {
    const some = prompts.slice(first, first + batchSize);
    const sampled = await generate(gpu, policy, {
      prompts: some,
      completionsPerPrompt: 1,
      maxNewTokens: maxTokens,
      temperature,
      topK: 0,
      topP: 1,
      minP: 0,
      seed: deriveSeed(seed, "batch", first),
      eosTokens: config.eosTokens,
    }, hooks);
    sampled.forEach(({ tokens, finished }, i) =>
      answers.push({
        sample: samples[first + i],
        text: tokenizer.decode([...tokens], { skipSpecial: true }),
        tokens: tokens.length,
        truncated: !finished,
      })
    );
    hooks.onAnswers(answers.length, samples.length);
  }
  return answers;
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
