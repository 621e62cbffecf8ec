// Settings of classification and partition with their bounds, defaults and descriptions, which
// /openapi.json and /docs show (METHOD.md, sections 1 and 2).

import { z } from "zod";
import { projections } from "../model/config.ts";

const id = z.string().min(1).max(500);
const unit = z.number().min(0).max(1);
const seed = z.number().int().min(0).max(2 ** 32 - 1).default(0);

const fileId = "the id that POST /v1/files answered";

const teacherSettings = z.strictObject({
  name: z.string().min(1).max(200).describe(
    "What its votes are listed under; each teacher its own.",
  ),
  model: id.describe("A model of this server or, with base_url, of the server there."),
  base_url: z.url().max(2000).optional().describe(
    "An OpenAI-compatible server, e.g. http://127.0.0.1:11434/v1; its host must be among the " +
      "configuration's teacher_hosts, its key among teacher_keys. Left out: a model of this server.",
  ),
  temperature: z.number().min(0).max(2).default(0).describe(
    "Of the reply; above 0, several votes of one teacher differ.",
  ),
});
export type TeacherSettings = z.infer<typeof teacherSettings>;

export const classifySettings = z.strictObject({
  file: id.optional().describe(`The samples to label: ${fileId}. Either this or samples.`),
  samples: z.array(z.record(z.string(), z.unknown())).min(1).max(10_000).optional().describe(
    "The samples to label, as records like a file's lines. Either this or file.",
  ),
  target_model: id.describe("The model to be trained, which the teachers are told to act as."),
  teachers: z.array(teacherSettings).min(1).max(32).describe(
    "The models that vote; the paper takes 3 and 5.",
  ),
  votes_per_teacher: z.number().int().min(1).max(32).default(1).describe(
    "Votes each teacher casts on a sample.",
  ),
  tie: z.enum(["system2", "undecided"]).default("system2").describe(
    "The label of a sample with as many votes for one system as for the other.",
  ),
  concurrency: z.number().int().min(1).max(64).default(8).describe(
    "Requests that wait for one remote teacher at a time.",
  ),
  seed: seed.describe("Of the teachers' sampling; it matters above temperature 0."),
});
export type ClassifySettings = z.infer<typeof classifySettings>;

export const loraSettings = z.strictObject({
  r: z.number().int().multipleOf(4).min(4).max(256).default(8).describe(
    "The rank, a multiple of 4: the kernels read four numbers at a time.",
  ),
  lora_alpha: z.number().min(0.001).max(1e6).default(64).describe(
    "B A x is multiplied by lora_alpha / r, with use_rslora by lora_alpha / sqrt(r).",
  ),
  target_modules: z.array(z.enum(projections)).min(1).max(projections.length).default([
    "q_proj",
    "k_proj",
    "v_proj",
    "gate_proj",
    "up_proj",
    "down_proj",
  ]).describe("The projections that get LoRA; the paper leaves o_proj out."),
  init: z.enum(["gaussian", "default", "pissa"]).default("gaussian").describe(
    "The start: both factors from N(0, 0.01^2); PEFT's default, whose zero B allows no partition; " +
      "or the base's principal singular vectors (PiSSA, arXiv 2404.02948).",
  ),
  use_rslora: z.boolean().default(false).describe("Scale by lora_alpha / sqrt(r)."),
  seed: seed.describe("Of the start."),
});
export type LoraSettings = z.infer<typeof loraSettings>;

export const partitionSettings = z.strictObject({
  model: id.describe("The model to be trained."),
  file: id.optional().describe(
    `Samples labelled by "system": ${fileId}, or that a classification did. Either this or ` +
      "system1_file and system2_file.",
  ),
  system1_file: id.optional().describe("Samples that all count as System 1."),
  system2_file: id.optional().describe("Samples that all count as System 2."),
  lora: loraSettings.default(() => loraSettings.parse({})).describe("The adapter to partition."),
  theta: z.number().gt(0).max(1).default(0.9).describe(
    "Share of each system's whole importance that its kept elements hold: the most important " +
      "elements until their sum reaches it.",
  ),
  alpha: unit.default(1).describe("Share of the shared elements that phase 1 moves."),
  beta: unit.default(1).describe("Share of the shared elements that phase 2 moves."),
  samples_per_system: z.number().int().min(1).max(100_000).default(100).describe(
    "Samples of each system that importance is measured on; fewer where there are fewer.",
  ),
  max_length: z.number().int().min(8).max(131072).default(512).describe(
    "Tokens of the longest sample, prompt and answer; a longer one is an error.",
  ),
  seed: seed.describe("Of the choice of samples."),
});
export type PartitionSettings = z.infer<typeof partitionSettings>;

export const rethresholdSettings = partitionSettings.pick({ theta: true, alpha: true, beta: true });
export type RethresholdSettings = z.infer<typeof rethresholdSettings>;
