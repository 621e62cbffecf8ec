// Every setting of a training job with its bounds and default: the one place for HTTP, CLI and docs.
// Names are those of Transformers' and TRL's configs; defaults are the paper's (METHOD.md, section 3).

import { z } from "zod";
import { classifySettings, loraSettings, partitionSettings } from "../par/settings.ts";

const fraction = z.number().min(0).max(1);
/** AdamW divides by 1 - beta^step. */
const decay = z.number().min(0).lt(1);
/** A file's or a model's id. */
const id = z.string().min(1).max(500);
const tokens = z.number().int().min(1).max(131072);
const seed = z.number().int().min(0).max(2 ** 32 - 1);
/** Samples of a file that are used at most. */
const limit = z.number().int().min(1).max(10_000_000);
const weight = z.number().min(-1000).max(1000).default(1);
const pattern = z.string().min(1).max(1000);

/** A reward by its type; `weight` multiplies it in the sum. */
export const rewardSettings = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("math_answer"), weight }),
  z.strictObject({ type: z.literal("integer"), weight }),
  z.strictObject({ type: z.literal("strict_format"), weight }),
  z.strictObject({ type: z.literal("soft_format"), weight }),
  z.strictObject({ type: z.literal("xml_count"), weight }),
  z.strictObject({
    type: z.literal("regex"),
    weight,
    pattern,
  }),
  z.strictObject({
    type: z.literal("length"),
    weight,
    /** Tokens at which the reward is full; it falls off linearly to 0 at twice the target. */
    target: tokens,
  }),
]);
export type RewardSettings = z.infer<typeof rewardSettings>;

const optimizerSettings = {
  lr_scheduler_type: z.enum(["cosine", "linear", "constant"]).default("cosine"),
  num_train_epochs: z.number().min(0).max(1000).default(1),
  /** When positive, it overrides num_train_epochs. */
  max_steps: z.number().int().min(-1).max(1_000_000).default(-1),
  adam_beta1: decay.default(0.9),
  /** In f32 a smaller one could be 0, and 0 / 0 where an element never had a gradient. */
  adam_epsilon: z.number().min(1e-30).max(1).default(1e-8),
  lora_dropout: z.number().min(0).max(0.9).default(0.05),
};

const subset = z.enum(["system1", "system2", "all"]);

export const sftSettings = z.strictObject({
  kind: z.literal("sft"),
  /** Which labelled samples are trained on. */
  data: subset.default("system1"),
  /** Which LoRA elements move: a system's own and its part of the shared ones, or all. */
  activate: subset.default("system1"),
  ...optimizerSettings,
  learning_rate: z.number().min(0).max(10).default(2e-4),
  warmup_ratio: fraction.default(0.03),
  per_device_train_batch_size: z.number().int().min(1).max(1024).default(1),
  gradient_accumulation_steps: z.number().int().min(1).max(1024).default(32),
  max_length: z.number().int().min(8).max(131072).default(512),
  weight_decay: z.number().min(0).max(10).default(0),
  adam_beta2: decay.default(0.999),
  /** 0 turns clipping off. */
  max_grad_norm: z.number().min(0).max(1e6).default(1),
});
export type SftSettings = z.infer<typeof sftSettings>;

export const grpoSettings = z.strictObject({
  kind: z.literal("grpo"),
  data: subset.default("system2"),
  activate: subset.default("system2"),
  ...optimizerSettings,
  lora_dropout: z.number().min(0).max(0.9).default(0),
  learning_rate: z.number().min(0).max(10).default(5e-6),
  warmup_ratio: fraction.default(0.1),
  /** Completions per optimizer micro-batch, as in TRL; a multiple of num_generations. */
  per_device_train_batch_size: z.number().int().min(1).max(1024).default(8),
  gradient_accumulation_steps: z.number().int().min(1).max(1024).default(1),
  weight_decay: z.number().min(0).max(10).default(0.1),
  adam_beta2: decay.default(0.99),
  max_grad_norm: z.number().min(0).max(1e6).default(0.1),
  num_generations: z.number().int().min(2).max(1024).default(8),
  max_prompt_length: tokens.default(128),
  max_completion_length: tokens.default(256),
  temperature: z.number().min(0.01).max(10).default(1),
  top_p: z.number().positive().max(1).default(1),
  /** 0 turns it off. */
  top_k: z.number().int().min(0).max(1_000_000).default(0),
  min_p: fraction.default(0),
  /** Weight of the KL to the policy the phase began with; 0 leaves it out. */
  beta: z.number().min(0).max(100).default(0),
  epsilon: fraction.default(0.2),
  /** Upper clip range; epsilon when left out. */
  epsilon_high: z.number().min(0).max(100).optional(),
  loss_type: z.enum(["grpo", "dr_grpo", "dapo"]).default("grpo"),
  scale_rewards: z.boolean().default(true),
  /** Optimizer updates per rollout (mu in the GRPO paper). */
  num_iterations: z.number().int().min(1).max(64).default(1),
  mask_truncated_completions: z.boolean().default(false),
  rewards: z.array(rewardSettings).min(1).max(32).default([
    { type: "math_answer", weight: 1 },
    { type: "integer", weight: 1 },
    { type: "strict_format", weight: 1 },
    { type: "soft_format", weight: 1 },
    { type: "xml_count", weight: 1 },
  ]),
  /** Put before every prompt that has no system message: it asks for the reasoning/answer tags. */
  system_prompt: z.string().max(10_000).nullable().default(null),
});
export type GrpoSettings = z.infer<typeof grpoSettings>;

export const phaseSettings = z.discriminatedUnion("kind", [sftSettings, grpoSettings]);
export type PhaseSettings = z.infer<typeof phaseSettings>;

export const graderSettings = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("math_answer") }),
  z.strictObject({
    type: z.literal("string_check"),
    operation: z.enum(["eq", "ne", "like", "ilike"]).default("eq"),
  }),
  z.strictObject({ type: z.literal("regex"), pattern }),
]);
export type GraderSettings = z.infer<typeof graderSettings>;

export const trainSettings = z.strictObject({
  model: id,
  file: id,
  validation_file: id.optional(),
  /** Classify the file first; left out when its records carry `system`. */
  classify: classifySettings.omit({ file: true, samples: true, target_model: true }).optional(),
  /** An id, settings to make one, or null: train every element. */
  partition: z.union([
    id,
    partitionSettings.omit({
      model: true,
      file: true,
      system1_file: true,
      system2_file: true,
    }),
  ]).nullable().optional(),
  /** With partition null: the adapter to train. */
  lora: loraSettings.optional(),
  phases: z.array(phaseSettings).min(1).max(16).default(() => [
    sftSettings.parse({ kind: "sft" }),
    grpoSettings.parse({ kind: "grpo" }),
  ]),
  seed: seed.default(0),
  checkpoint_every_steps: z.number().int().min(0).max(1_000_000).default(0),
  evaluate: z.strictObject({
    file: id,
    grader: graderSettings,
    max_tokens: tokens.default(256),
    limit: limit.optional(),
  }).optional(),
  suffix: z.string().regex(/^[a-z0-9][a-z0-9_-]{0,39}$/).optional(),
});
export type TrainSettings = z.infer<typeof trainSettings>;

export const evaluateSettings = z.strictObject({
  model: id,
  file: id,
  grader: graderSettings.optional(),
  rewards: z.array(rewardSettings).min(1).max(32).optional(),
  max_tokens: tokens.default(256),
  temperature: z.number().min(0).max(10).default(0),
  limit: limit.optional(),
  seed: seed.default(0),
  system_prompt: z.string().max(10_000).nullable().default(null),
});
export type EvaluateSettings = z.infer<typeof evaluateSettings>;
