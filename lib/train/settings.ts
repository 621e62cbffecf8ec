// Every setting of a training job with its bounds, default and description: the one place for HTTP, CLI
// and documentation. Names are those of Transformers' and TRL's configs; defaults are the paper's
// (METHOD.md, section 3).

import { z } from "zod";
import { classifySettings, loraSettings, partitionSettings } from "../par/settings.ts";
import { maxPatternLength } from "./pattern.ts";

const fraction = z.number().min(0).max(1);
/** AdamW divides by 1 - beta^step. */
const decay = z.number().min(0).lt(1);
/** A file's or a model's id. */
const id = z.string().min(1).max(500);
const tokens = z.number().int().min(1).max(131072);
const seed = z.number().int().min(0).max(2 ** 32 - 1);
const limit = z.number().int().min(1).max(10_000_000).describe(
  "Samples from the beginning of the file that are used at most; all when left out.",
);
const weight = z.number().min(-1000).max(1000).default(1).describe(
  "Multiplies the reward in the sum of all.",
);
const pattern = z.string().min(1).max(maxPatternLength).describe(
  "A regular expression in RE2's syntax, looked for anywhere in the completion.",
);
const maxTokens = tokens.default(256).describe("Tokens of the longest answer.");

/** The field that names a variant of a union. */
const kind = <const T extends string>(name: T, description: string) =>
  z.literal(name).describe(description);

/** A reward by its type; `weight` multiplies it in the sum. */
export const rewardSettings = z.discriminatedUnion("type", [
  z.strictObject({
    type: kind("math_answer", "2 when the stated answer is the reference's number."),
    weight,
  }),
  z.strictObject({
    type: kind("integer", "0.5 when the stated answer is an integer in digits."),
    weight,
  }),
  z.strictObject({
    type: kind(
      "strict_format",
      "0.5 when the completion is <reasoning>, <answer> and their line ends, and nothing else.",
    ),
    weight,
  }),
  z.strictObject({
    type: kind("soft_format", "0.5 when the completion begins with both tags in order."),
    weight,
  }),
  z.strictObject({
    type: kind(
      "xml_count",
      "0.125 for each of the four tags in its place, less 0.001 for each character after the end.",
    ),
    weight,
  }),
  z.strictObject({
    type: kind("regex", "1 when the pattern matches."),
    weight,
    pattern,
  }),
  z.strictObject({
    type: kind("length", "1 at target tokens, falling to 0 at none and at twice as many."),
    weight,
    target: tokens.describe("Tokens at which the reward is full."),
  }),
]);
export type RewardSettings = z.infer<typeof rewardSettings>;

const optimizerSettings = {
  lr_scheduler_type: z.enum(["cosine", "linear", "constant"]).default("cosine").describe(
    "How the learning rate falls after the warm-up.",
  ),
  num_train_epochs: z.number().min(0).max(1000).default(1).describe(
    "Passes over the phase's samples; a fraction ends within one.",
  ),
  max_steps: z.number().int().min(-1).max(1_000_000).default(-1).describe(
    "Optimizer steps; when positive it overrides num_train_epochs.",
  ),
  adam_beta1: decay.default(0.9).describe("AdamW's decay of the first moment."),
  // In f32 a smaller one could be 0, and 0 / 0 where an element never had a gradient.
  adam_epsilon: z.number().min(1e-30).max(1).default(1e-8).describe(
    "Added to the root of AdamW's second moment.",
  ),
};

const dropout = z.number().min(0).max(0.9);
const learningRate = z.number().min(0).max(10);
const batchSize = z.number().int().min(1).max(1024);
const weightDecay = z.number().min(0).max(10);
const maxGradNorm = z.number().min(0).max(1e6);
const subset = z.enum(["system1", "system2", "all"]);

const about = {
  data: "Which labelled samples are trained on.",
  activate: "Which LoRA elements move: a system's own and its part of the shared ones, or all.",
  learning_rate: "The peak, at the end of the warm-up.",
  warmup_ratio: "Share of the steps over which the learning rate rises from 0.",
  weight_decay: "AdamW's, decoupled; elements that are not active are not decayed.",
  adam_beta2: "AdamW's decay of the second moment.",
  max_grad_norm: "The gradient's norm is cut to it; 0 turns that off.",
  lora_dropout: "Share of x that is dropped on its way into LoRA's A.",
};

export const sftSettings = z.strictObject({
  kind: kind("sft", "Supervised fine-tuning: cross-entropy on the answer's tokens."),
  data: subset.default("system1").describe(about.data),
  activate: subset.default("system1").describe(about.activate),
  ...optimizerSettings,
  lora_dropout: dropout.default(0.05).describe(about.lora_dropout),
  learning_rate: learningRate.default(2e-4).describe(about.learning_rate),
  warmup_ratio: fraction.default(0.03).describe(about.warmup_ratio),
  per_device_train_batch_size: batchSize.default(1).describe("Samples of a micro-batch."),
  gradient_accumulation_steps: batchSize.default(32).describe("Micro-batches of a step."),
  max_length: z.number().int().min(8).max(131072).default(512).describe(
    "Tokens of the longest sample, prompt and answer; a longer one is an error.",
  ),
  weight_decay: weightDecay.default(0).describe(about.weight_decay),
  adam_beta2: decay.default(0.999).describe(about.adam_beta2),
  max_grad_norm: maxGradNorm.default(1).describe(about.max_grad_norm),
});
export type SftSettings = z.infer<typeof sftSettings>;

export const grpoSettings = z.strictObject({
  kind: kind("grpo", "Group relative policy optimization (arXiv 2402.03300) on sampled answers."),
  data: subset.default("system2").describe(about.data),
  activate: subset.default("system2").describe(about.activate),
  ...optimizerSettings,
  lora_dropout: dropout.default(0).describe(about.lora_dropout),
  learning_rate: learningRate.default(5e-6).describe(about.learning_rate),
  warmup_ratio: fraction.default(0.1).describe(about.warmup_ratio),
  per_device_train_batch_size: batchSize.default(8).describe(
    "Completions of a micro-batch, as in TRL; with gradient_accumulation_steps a multiple of " +
      "num_generations.",
  ),
  gradient_accumulation_steps: batchSize.default(1).describe("Micro-batches of a step."),
  weight_decay: weightDecay.default(0.1).describe(about.weight_decay),
  adam_beta2: decay.default(0.99).describe(about.adam_beta2),
  max_grad_norm: maxGradNorm.default(0.1).describe(about.max_grad_norm),
  num_generations: z.number().int().min(2).max(1024).default(8).describe(
    "Completions of a prompt: the group whose rewards are compared.",
  ),
  max_prompt_length: tokens.default(128).describe(
    "Tokens of the longest prompt; more is an error.",
  ),
  max_completion_length: tokens.default(256).describe("Tokens of the longest completion."),
  temperature: z.number().min(0.01).max(10).default(1).describe("Of the sampling and of the loss."),
  top_p: z.number().positive().max(1).default(1).describe(
    "Sample among the likeliest tokens that hold this much probability; 1 turns it off.",
  ),
  top_k: z.number().int().min(0).max(1_000_000).default(0).describe(
    "Sample among so many of the likeliest tokens; 0 turns it off.",
  ),
  min_p: fraction.default(0).describe(
    "Sample among tokens at least this times as likely as the likeliest; 0 turns it off.",
  ),
  beta: z.number().min(0).max(100).default(0).describe(
    "Weight of the KL divergence to the policy that the phase began with; 0 leaves it out.",
  ),
  epsilon: fraction.default(0.2).describe("The ratio of new to old policy is clipped to 1 - this."),
  epsilon_high: z.number().min(0).max(100).optional().describe(
    "The ratio is clipped to 1 + this; epsilon when left out.",
  ),
  loss_type: z.enum(["grpo", "dr_grpo", "dapo"]).default("grpo").describe(
    "A token's weight in the loss: by its completion's length, by max_completion_length, or by " +
      "all tokens of the step.",
  ),
  scale_rewards: z.boolean().default(true).describe(
    "Divide advantages by the group's standard deviation.",
  ),
  num_iterations: z.number().int().min(1).max(64).default(1).describe(
    "Optimizer steps on the same completions (mu in the GRPO paper).",
  ),
  mask_truncated_completions: z.boolean().default(false).describe(
    "Leave completions out of the loss that were cut off at max_completion_length.",
  ),
  rewards: z.array(rewardSettings).min(1).max(16).default([
    { type: "math_answer", weight: 1 },
    { type: "integer", weight: 1 },
    { type: "strict_format", weight: 1 },
    { type: "soft_format", weight: 1 },
    { type: "xml_count", weight: 1 },
  ]).describe("What a completion earns; the defaults are the authors' for GSM8K."),
  system_prompt: z.string().max(10_000).nullable().default(null).describe(
    "Put before every prompt that has no system message, e.g. to ask for the tags that the format " +
      "rewards look for.",
  ),
});
export type GrpoSettings = z.infer<typeof grpoSettings>;

const phaseSettings = z.discriminatedUnion("kind", [sftSettings, grpoSettings]);
export type PhaseSettings = z.infer<typeof phaseSettings>;

const graderSettings = z.discriminatedUnion("type", [
  z.strictObject({
    type: kind("math_answer", "Right when the stated answer is the reference's number."),
  }),
  z.strictObject({
    type: kind("string_check", "Compares the completion with the sample's answer as text."),
    operation: z.enum(["eq", "ne", "like", "ilike"]).default("eq").describe(
      "Equal, not equal, contains, or contains whatever the case.",
    ),
  }),
  z.strictObject({ type: kind("regex", "Right when the pattern matches."), pattern }),
]);
export type GraderSettings = z.infer<typeof graderSettings>;

export const trainSettings = z.strictObject({
  model: id.describe("A base, or a trained model to go on from."),
  file: id.describe("The samples: the id that POST /v1/files or a classification answered."),
  validation_file: id.optional().describe(
    "After each SFT phase the loss on these samples is measured.",
  ),
  classify: classifySettings.omit({ file: true, samples: true, target_model: true }).optional()
    .describe("Label the file first; left out when its records carry system."),
  partition: z.union([
    id,
    partitionSettings.omit({
      model: true,
      file: true,
      system1_file: true,
      system2_file: true,
    }),
  ]).nullable().optional().describe(
    "A partition's id, settings to make one, or null to move every element: the baseline.",
  ),
  lora: loraSettings.optional().describe("The adapter to train where partition is null."),
  phases: z.array(phaseSettings).min(1).max(16).default(() => [
    sftSettings.parse({ kind: "sft" }),
    grpoSettings.parse({ kind: "grpo" }),
  ]).describe("What is done one after the other; the paper's SFT and GRPO when left out."),
  seed: seed.default(0).describe("Of the samples' order, dropout and rollouts."),
  checkpoint_every_steps: z.number().int().min(0).max(1_000_000).default(0).describe(
    "Has no effect yet: this version writes no checkpoints.",
  ),
  evaluate: z.strictObject({
    file: id.describe("Samples that are answered."),
    grader: graderSettings.describe("What makes an answer right."),
    max_tokens: maxTokens,
    limit: limit.optional(),
  }).optional().describe("Answer and grade a file after each phase, greedily."),
  suffix: z.string().regex(/^[a-z0-9][a-z0-9_-]{0,39}$/).optional().describe(
    "Names the trained model: <base>:<suffix>.",
  ),
});
export type TrainSettings = z.infer<typeof trainSettings>;

export const evaluateSettings = z.strictObject({
  model: id.describe("A base or a trained model."),
  file: id.describe("Samples to answer: the id that POST /v1/files answered."),
  grader: graderSettings.optional().describe("What makes an answer right; this, rewards or both."),
  rewards: z.array(rewardSettings).min(1).max(16).optional().describe(
    "Rewards to report; without a grader an answer that earns any is right.",
  ),
  max_tokens: maxTokens,
  temperature: z.number().min(0).max(10).default(0).describe("Of the answers; 0 is greedy."),
  limit: limit.optional(),
  seed: seed.default(0).describe("Of the sampling; it matters above temperature 0."),
  system_prompt: z.string().max(10_000).nullable().default(null).describe(
    "Put before every prompt that has no system message.",
  ),
});
export type EvaluateSettings = z.infer<typeof evaluateSettings>;
