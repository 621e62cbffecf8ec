// Settings of classification and partition with their bounds and defaults (API.md; METHOD.md 1, 2).

import { z } from "zod";
import { projections } from "../model/config.ts";

const id = z.string().min(1).max(500);
const unit = z.number().min(0).max(1);
const seed = z.number().int().min(0).max(2 ** 32 - 1).default(0);

export const teacherSettings = z.strictObject({
  name: z.string().min(1).max(200),
  model: id,
  /** An OpenAI-compatible server; without it `model` is a local model of this server. */
  base_url: z.url().max(2000).optional(),
  temperature: z.number().min(0).max(2).default(0),
});
export type TeacherSettings = z.infer<typeof teacherSettings>;

export const classifySettings = z.strictObject({
  file: id.optional(),
  samples: z.array(z.record(z.string(), z.unknown())).min(1).max(10_000).optional(),
  /** The model the teachers are told to act as. */
  target_model: id,
  teachers: z.array(teacherSettings).min(1).max(32),
  votes_per_teacher: z.number().int().min(1).max(32).default(1),
  tie: z.enum(["system2", "undecided"]).default("system2"),
  concurrency: z.number().int().min(1).max(64).default(8),
  seed,
});
export type ClassifySettings = z.infer<typeof classifySettings>;

export const loraSettings = z.strictObject({
  /** A multiple of 4: the kernels read four at a time. */
  r: z.number().int().multipleOf(4).min(4).max(256).default(8),
  lora_alpha: z.number().min(0.001).max(1e6).default(64),
  target_modules: z.array(z.enum(projections)).min(1).max(projections.length).default([
    "q_proj",
    "k_proj",
    "v_proj",
    "gate_proj",
    "up_proj",
    "down_proj",
  ]),
  init: z.enum(["gaussian", "default", "pissa"]).default("gaussian"),
  use_rslora: z.boolean().default(false),
  seed,
});
export type LoraSettings = z.infer<typeof loraSettings>;

export const partitionSettings = z.strictObject({
  model: id,
  file: id.optional(),
  system1_file: id.optional(),
  system2_file: id.optional(),
  lora: loraSettings.default(() => loraSettings.parse({})),
  /** Share of the importance that is kept, in (0, 1]. */
  theta: z.number().gt(0).max(1).default(0.9),
  alpha: unit.default(1),
  beta: unit.default(1),
  samples_per_system: z.number().int().min(1).max(100_000).default(100),
  max_length: z.number().int().min(8).max(131072).default(512),
  seed,
});
export type PartitionSettings = z.infer<typeof partitionSettings>;

export const rethresholdSettings = partitionSettings.pick({ theta: true, alpha: true, beta: true });
export type RethresholdSettings = z.infer<typeof rethresholdSettings>;
