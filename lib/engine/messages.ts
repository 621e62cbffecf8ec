// The tasks of the engine, their events and results. They are plain data (structured clone), so the engine
// can become a process of its own. The server resolves ids to
// paths before it sends a task; the engine opens nothing else and writes only into `outputFolder`.

import type { ClassifySettings, PartitionSettings, RethresholdSettings } from "../par/settings.ts";
import type { EvaluateSettings, TrainSettings } from "../train/settings.ts";

/** A model as the server knows it: a base, or a base with a trained adapter on it. */
export interface ModelReference {
  /** The id the user gave. */
  id: string;
  /** The id of the base; a base is its own. */
  baseId: string;
  /** A Hugging Face folder or a .gguf file. */
  path: string;
  /** A folder that holds adapter_config.json and adapter_model.safetensors, or null. */
  adapterFolder: string | null;
}

/** An uploaded file; the format follows from the name's ending. */
export interface FileReference {
  id: string;
  path: string;
  filename: string;
}

export interface PartitionReference {
  id: string;
  /** Holds partition.json and partition.safetensors. */
  folder: string;
}

export interface ClassifyTask {
  kind: "classify";
  request: ClassifySettings;
  file: FileReference | null;
  /** A model for each teacher without base_url, by the teacher's name. */
  localTeachers: Map<string, ModelReference>;
  /** Keys read from the environment by the server, by the teacher's name. */
  apiKeys: Map<string, string>;
  /** Servers a base_url may name, e.g. "127.0.0.1" or "127.0.0.1:8000". */
  allowedHosts: string[];
  /** classified.jsonl is written here. */
  outputFolder: string;
}

export interface PartitionTask {
  kind: "partition";
  request: PartitionSettings;
  model: ModelReference;
  file: FileReference | null;
  system1File: FileReference | null;
  system2File: FileReference | null;
  /** partition.json and partition.safetensors are written here. */
  outputFolder: string;
}

export interface RethresholdTask {
  kind: "rethreshold";
  request: RethresholdSettings;
  source: PartitionReference;
  outputFolder: string;
}

export interface TrainTask {
  kind: "train";
  request: TrainSettings;
  model: ModelReference;
  file: FileReference;
  validationFile: FileReference | null;
  evaluateFile: FileReference | null;
  partition: PartitionReference | null;
  localTeachers: Map<string, ModelReference>;
  apiKeys: Map<string, string>;
  allowedHosts: string[];
  /** What the adapter calls its base: a name, or else its folder where that may be told. */
  adapterBase: { name: string | null; folderMayBeTold: boolean };
  /** Answer the plan (TrainPlan) instead of training. */
  dryRun: boolean;
  /** adapter/ (PEFT), partition/ and classified.jsonl where the job made them. */
  outputFolder: string;
}

export interface EvaluateTask {
  kind: "evaluate";
  request: EvaluateSettings;
  model: ModelReference;
  file: FileReference;
  outputFolder: string;
}

export interface ChatTask {
  kind: "chat";
  model: ModelReference;
  messages: { role: string; content: string }[];
  maxTokens: number;
  temperature: number;
  topP: number;
  topK: number;
  minP: number;
  seed: number;
  stop: string[];
  /** Completions of the same prompt. */
  n: number;
}

/** What `GET /v1/models/{id}` and `doctor` show of a model, read without loading its weights. */
export interface DescribeModelTask {
  kind: "describe_model";
  model: ModelReference;
}

/** Reads an uploaded file as a job would, to tell at once what cannot be read. Needs no GPU. */
export interface InspectFileTask {
  kind: "inspect_file";
  file: FileReference;
}

export interface DoctorTask {
  kind: "doctor";
}

export type Task =
  | ClassifyTask
  | PartitionTask
  | RethresholdTask
  | TrainTask
  | EvaluateTask
  | ChatTask
  | DescribeModelTask
  | InspectFileTask
  | DoctorTask;

/** Tasks that a text worker does alone; they need no GPU. */
export type TextTask = DescribeModelTask | InspectFileTask;

/** Tasks of the engine's thread. */
export type GpuTask = Exclude<Task, TextTask>;

export interface Progress {
  /** e.g. "loading", "classify", "importance", "sft", "grpo", "evaluate" */
  phase: string;
  done: number;
  total: number;
  /** e.g. "samples", "steps", "tokens" */
  unit: string;
  etaSeconds: number | null;
}

/** What a task tells while it runs, in the order it happens. */
export type TaskEvent =
  | { type: "progress"; progress: Progress }
  /** One row of metrics: phase and step name the row, the rest are numbers. */
  | { type: "metrics"; phase: string; step: number; values: Record<string, number> }
  /** A rollout or an evaluated answer. */
  | { type: "sample"; sample: Record<string, unknown> }
  | { type: "log"; level: "info" | "warning"; message: string }
  /** A piece of a chat completion; `index` counts the n choices. */
  | { type: "delta"; index: number; text: string };

export interface ChatResult {
  choices: { index: number; text: string; finishReason: "stop" | "length"; tokens: number }[];
  promptTokens: number;
}

export interface TrainResult {
  /** Relative to outputFolder. */
  adapterFolder: "adapter";
  /** Present when the job made its own. */
  partitionFolder: "partition" | null;
  classifiedFile: "classified.jsonl" | null;
  phases: {
    kind: "sft" | "grpo";
    steps: number;
    tokens: number;
    active_elements: number;
    /** The last step's metrics and means over the phase. */
    metrics: Record<string, number>;
    seconds: number;
  }[];
  evaluations: { after_phase: number; accuracy: number; count: number }[];
  /** Always 0: a training in which an inactive element changed fails. */
  inactive_elements_changed: number;
}

export interface TrainPlan {
  elements: { total: number; active: { kind: string; elements: number }[] };
  /** Bytes by kind. */
  memory: {
    weights: number;
    activations: number;
    kv_cache: number;
    optimizer: number;
    total: number;
    available: number | null;
  };
  fits: boolean;
  phases: { kind: string; samples: number; steps: number }[];
  estimated_seconds: number | null;
}

export interface ClassifyResult {
  /** Relative to outputFolder. */
  file: "classified.jsonl";
  counts: { system1: number; system2: number; undecided: number; abstentions: number };
  agreement: number;
  fleiss_kappa: number | null;
  pairwise: { teachers: [string, string]; agreement: number }[];
}

export interface EvaluateResult {
  accuracy: number;
  /** Wilson 95 % interval. */
  interval: [number, number];
  count: number;
  correct: number;
  /** Mean of each reward, when rewards were asked for. */
  rewards: Record<string, number>;
  /** Relative to outputFolder: one line an answer. */
  file: "answers.jsonl";
}

/** Counts of what was read; `error` says why the file cannot be read, and then both are 0. */
export interface InspectFileResult {
  samples: number;
  /** Samples with a label, system1 or system2. */
  labelled: number;
  error: string | null;
}

/** The result of each kind of task, keyed by `Task["kind"]`. */
export interface TaskResults {
  classify: ClassifyResult;
  /** What GET /v1/partitions/{id} shows, less the id. */
  partition: Record<string, unknown>;
  rethreshold: Record<string, unknown>;
  train: TrainResult | TrainPlan;
  evaluate: EvaluateResult;
  chat: ChatResult;
  describe_model: Record<string, unknown>;
  inspect_file: InspectFileResult;
  doctor: Record<string, unknown>;
}

/** An error as it crosses the boundary; `name` is one of lib/errors.ts. */
export interface TaskError {
  name: string;
  message: string;
  param: string | null;
  code: string;
}
