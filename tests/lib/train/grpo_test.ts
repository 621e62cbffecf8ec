// GRPO's loop as a whole, on a golden model with a tokenizer of one letter a token.

import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import type { GrpoPrompt } from "../../../lib/train/grpo_batches.ts";
import { type GrpoTexts, trainGrpo } from "../../../lib/train/grpo.ts";
import { allElements, createOptimizer } from "../../../lib/train/optimizer.ts";
import type { PhaseContext } from "../../../lib/train/phase.ts";
import { scoreCompletion } from "../../../lib/train/rewards.ts";
import { type GrpoSettings, grpoSettings, sftSettings } from "../../../lib/train/settings.ts";
import { trainSft } from "../../../lib/train/sft.ts";

import { openGolden } from "../../golden.ts";
import { testGpu } from "../../gpu.ts";

const sample = { prompt: [], answer: "1", system: null, item: {} };

function lettersOf({ rewards }: GrpoSettings, eosTokens: number[]): GrpoTexts {
  return {
    eosTokens,
    score: (completions) =>
      Promise.resolve(completions.map(({ tokens }) => {
        const text = String.fromCharCode(...tokens.map((token) => 0x4e00 + token));
        const { total, each } = scoreCompletion(rewards, text, sample, { tokens: tokens.length });
        return { text, reward: total, rewards: each, sample };
      })),
  };
}

/** Trains the golden model from its start; answers what the phase reported. */
async function run(given: Partial<GrpoSettings>, seed = 0) {
  const gpu = await testGpu();
  const golden = await openGolden(gpu, "qwen3");
  const { adapter, decoder } = golden;
  const prompts: GrpoPrompt[] = golden.samples("").map(({ tokens, promptLength }, number) => ({
    number,
    tokens: tokens.slice(0, promptLength),
  }));
  const settings = grpoSettings.parse({
    kind: "grpo",
    max_steps: 1,
    warmup_ratio: 0,
    per_device_train_batch_size: 4,
    num_generations: 4,
    max_completion_length: 6,
    rewards: [{ type: "integer" }],
    ...given,
  });
  const active = allElements(gpu, golden.layout.elements);
  const optimizer = createOptimizer(
    gpu,
    { phi: adapter.phi, grad: adapter.grad! },
    active,
    settings,
  );
  const groups = settings.per_device_train_batch_size / settings.num_generations;
  const texts: string[][] = [];
  const steps: Record<string, number>[] = [];
  const context: PhaseContext = {
    gpu,
    decoder,
    adapter,
    optimizer,
    seed,
    turn: (work) => work(),
    checkCancelled: () => {},
    onProgress: () => {},
    onMetrics: (_, values) => steps.push(values),
    onSample: ({ step, completion }) => (texts[step as number - 1] ??= []).push(String(completion)),
  };
  const letters = lettersOf(settings, decoder.config.eosTokens);
  const result = await trainGrpo(context, prompts.slice(0, groups), letters, settings);
  const phi = await gpu.readFloats(adapter.phi);
  return { result, steps, texts, phi, start: golden.floats("phi"), context, golden };
}

Deno.test("grpo: where all rewards are equal, entropy is what it is and nothing else moves", async () => {
  const equal = await run({ weight_decay: 0 });
  const [metrics] = equal.steps;
  assertStrictEquals(metrics.frac_reward_zero_std, 1);
  assertEquals([metrics.loss, metrics.grad_norm, metrics.clip_fraction], [0, 0, 0]);
  assertEquals([...equal.phi], [...equal.start]);
  assert(!("kl" in metrics));
  // A KL term makes the same completions go through the backward: the same entropy.
  const [withKl] = (await run({ weight_decay: 0, beta: 1e-3 })).steps;
  assertStrictEquals(withKl.kl, 0);
  assert(metrics.entropy > 1, `entropy ${metrics.entropy}`);
  assert(Math.abs(metrics.entropy - withKl.entropy) < 1e-5, `${metrics.entropy}`);
});

Deno.test("grpo: entropy is over the groups that move and those that do not, in every iteration", async () => {
  const both = { per_device_train_batch_size: 12, num_iterations: 2, max_steps: 2 };
  const equal = await run({ ...both, learning_rate: 0 });
  // Characters that some completions of some groups hold.
  const rewards = [{ type: "regex" as const, weight: 1, pattern: "[\u4e0f-\u4e12]" }];
  const mixed = await run({ ...both, rewards, learning_rate: 1e-3, lr_scheduler_type: "constant" });
  const { frac_reward_zero_std: share } = mixed.steps[0];
  assert(share > 0 && share < 1, `${share} of the groups have equal rewards`);
  assertEquals(mixed.texts, equal.texts);
  const [first, second] = mixed.steps.map(({ entropy }) => entropy);
  assert(Math.abs(first - equal.steps[0].entropy) < 1e-5, `${first}, ${equal.steps[0].entropy}`);
  assert(second !== first && Math.abs(second - first) < 0.5, `${first}, then ${second}`);
});

Deno.test("grpo: the second step of seed 0 samples other completions than the first of seed 1", async () => {
  const still = { learning_rate: 0, max_steps: 2 };
  const zero = await run(still, 0), one = await run(still, 1);
  const all = [...zero.texts, ...one.texts].map((group) => group.join(" "));
  assertStrictEquals(new Set(all).size, 4);
  assertEquals((await run(still, 0)).texts, zero.texts);
});

Deno.test("grpo and sft: num_train_epochs 0 trains nothing, a part of an epoch its part", async () => {
  const none = await run({ max_steps: -1, num_train_epochs: 0, beta: 0.1 });
  assertEquals(none.result, { steps: 0, tokens: 0, metrics: {} });
  assertEquals([...none.phi], [...none.start]);

  const samples = none.golden.samples("");
  const sft = (num_train_epochs: number) =>
    trainSft(
      none.context,
      samples,
      sftSettings.parse({ kind: "sft", num_train_epochs, gradient_accumulation_steps: 1 }),
    );
  assertEquals(await sft(0), { steps: 0, tokens: 0, metrics: {} });
  assertStrictEquals((await sft(0.5)).steps, 2);
});
