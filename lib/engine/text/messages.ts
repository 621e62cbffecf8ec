// The typed messages between the server and its text workers. The GPU's thread knows token ids and
// numbers; everything that reads, renders, tokenizes or judges a text of the user's happens in a text
// worker, one call at a time. All messages are plain data. Long results come in pieces.

import type { System } from "../../data/record.ts";
import type { ClassifySettings, PartitionSettings } from "../../par/settings.ts";
import type { ScoredCompletion } from "../../train/grpo_batches.ts";
import type { GraderSettings, PhaseSettings, RewardSettings } from "../../train/settings.ts";
import type {
  ClassifyResult,
  ClassifyTask,
  FileReference,
  ModelReference,
  TaskError,
  TaskEvent,
} from "../messages.ts";
import type { ChoiceState } from "./choice_state.ts";
import type { TokenRows } from "./rows.ts";
import type { Stage, TextLimits } from "./stage.ts";

/** A model as far as its texts go: the id the user gave, and the files that its tokenizer comes from. */
export type TextModel = Pick<ModelReference, "id" | "path">;

/** Every call: what it takes and what it answers. */
export interface TextCalls {
  inspect_file: {
    args: { file: FileReference };
    result: { samples: number; labelled: number };
  };
  describe_model: {
    args: { model: ModelReference };
    result: Record<string, unknown>;
  };
  /** A chat's prompt; refused when it leaves the model no room for an answer. */
  encode_chat: {
    args: { model: TextModel; messages: { role: string; content: string }[] };
    result: { tokens: Uint32Array; eosTokens: number[] };
  };
  /** The texts of new tokens of a chat's choices. */
  decode_chat: {
    args: { model: TextModel; stop: string[]; choices: NewTokens[] };
    result: NewText[];
  };
  /** Reads files into one set of samples, each file with its label where it has one. */
  read_samples: {
    args: { set: SampleSet; files: LabelledFile[] };
    result: { samples: number };
  };
  /** Labels the training samples by the teachers' votes and writes classified.jsonl. */
  classify: {
    args: {
      settings: Omit<ClassifySettings, "file" | "samples">;
      access: TeacherAccess;
      outputFolder: string;
    };
    result: ClassifyResult;
  };
  /** Sends what each phase trains on; its part is the phase's index. */
  render_phases: {
    args: { model: TextModel; phases: PhaseSettings[] };
    result: { eosTokens: number[] };
  };
  /** Sends what each SFT phase is measured on; its part is the phase's index. */
  render_validation: {
    args: { model: TextModel; phases: PhaseSettings[] };
    result: Record<never, never>;
  };
  /** Sends samples for a partition, System 1's as part 0 and System 2's as part 1. */
  render_systems: {
    args: {
      model: TextModel;
      settings: Pick<PartitionSettings, "samples_per_system" | "max_length" | "seed">;
    };
    result: Record<never, never>;
  };
  /** Sends the prompts of the samples to evaluate. */
  render_prompts: {
    args: {
      model: TextModel;
      /** Samples from the beginning; null for all. */
      limit: number | null;
      /** Tokens of an answer. */
      maxTokens: number;
      systemPrompt: string | null;
      grader: GraderSettings | null;
      rewards: RewardSettings[] | null;
    };
    result: { eosTokens: number[] };
  };
  /** Judges answers to the prompts from number `first` on; `keep` is for those that are to be written. */
  judge_answers: {
    args: { first: number; answers: { tokens: Uint32Array; truncated: boolean }[]; keep: boolean };
    result: { correct: number };
  };
  write_answers: {
    args: { outputFolder: string };
    result: { file: "answers.jsonl"; rewards: Record<string, number> };
  };
  /** Scores completions of a GRPO phase; `prompt` counts the phase's prompts. */
  score_completions: {
    args: { phase: number; completions: { prompt: number; tokens: Uint32Array }[] };
    result: ScoredCompletion[];
  };
}

/** A file of samples that may all be of one system. */
export interface LabelledFile {
  file: FileReference;
  system: System | null;
  /** The request's field that named it. */
  param: string;
}

/** The data sets of a task. */
export type SampleSet = "train" | "validation" | "evaluate";

/** What a task needs to reach its teachers. */
export type TeacherAccess = Pick<ClassifyTask, "localTeachers" | "apiKeys" | "allowedHosts">;

/** Prompts for a teacher that is a model of this server. */
export interface TeacherAsk {
  model: ModelReference;
  prompts: Uint32Array[];
  maxNewTokens: number;
  temperature: number;
  seed: number;
  eosTokens: number[];
}

export interface NewTokens {
  state: ChoiceState;
  tokens: Uint32Array;
  /** No more will come. */
  isLast: boolean;
}

export interface NewText {
  state: ChoiceState;
  text: string;
  /** How many of the tokens were looked at: all, or those up to a stop sequence. */
  used: number;
}

export type TextKind = keyof TextCalls;

/** Asks text workers; on the engine's thread the call goes through the server. */
export interface Texts {
  /**
   * Makes a call and waits for its answer.
   * @throws {InvalidRequest} {InvalidFile} as the call does, and when it showed no progress for too long
   * or broke its worker. @throws {Cancelled} when the task is cancelled.
   */
  call<K extends TextKind>(
    kind: K,
    args: TextCalls[K]["args"],
    hooks?: CallHooks,
  ): Promise<TextCalls[K]["result"]>;
}

/** What reaches the caller besides the answer. */
export interface CallHooks {
  onRows?(rows: TokenRows): void;
  /** Answers tokens by prompt. */
  onAsk?(ask: TeacherAsk): Promise<Uint32Array[]>;
}

/** What a worker is started with. */
export interface TextWorkerData {
  limits: TextLimits;
  /** Int32 words: signs of progress counted, and the number of the item at work. */
  progress: SharedArrayBuffer;
}

/** A call; the next one is sent when the last was answered. */
export type TextRequest = {
  [K in TextKind]: { kind: K; args: TextCalls[K]["args"] };
}[TextKind];

/** The engine's answer to a `TeacherAsk`. */
export type TeacherReply = { tokens: Uint32Array[] } | { error: TaskError };

/** Server to text worker. */
export type ToTextWorker = TextRequest | { kind: "teacher_reply"; reply: TeacherReply };

/** Text worker to server. */
export type TextReply =
  | { type: "stage"; stage: Stage }
  | { type: "event"; event: TaskEvent }
  | { type: "rows"; rows: TokenRows }
  | { type: "ask"; ask: TeacherAsk }
  /** An error of our own, for the log. */
  | { type: "fault"; message: string }
  | { type: "done"; result: TextCalls[TextKind]["result"] }
  /** `isBroken`: something went wrong beside the call, so the worker is not used again. */
  | { type: "failed"; error: TaskError; isBroken: boolean };
