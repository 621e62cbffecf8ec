// What a text worker keeps for its task between calls.

import type { Sample } from "../../data/record.ts";
import type { ChatTokenizer } from "../../model/tokenizer.ts";
import type { GraderSettings, GrpoSettings, RewardSettings } from "../../train/settings.ts";
import type { SampleSet } from "./messages.ts";

/** What answers to the samples of a set are judged by. */
export interface Judged {
  samples: Sample[];
  tokenizer: ChatTokenizer;
  grader: GraderSettings | null;
  rewards: RewardSettings[] | null;
  /** The answers so far, as they are written at the end. */
  answers: JudgedAnswer[];
}

export interface JudgedAnswer extends Record<string, unknown> {
  correct: boolean;
  rewards?: Record<string, number>;
}

export interface TaskState {
  sets: Map<SampleSet, Sample[]>;
  /** By the number of a GRPO phase, its samples in the order of its prompts. */
  phases: Map<number, { settings: GrpoSettings; samples: Sample[]; tokenizer: ChatTokenizer }>;
  judged: Judged | null;
}

export function newTaskState(): TaskState {
  return { sets: new Map(), phases: new Map(), judged: null };
}

/** The samples of a set that was read. */
export function samplesOfSet({ sets }: TaskState, set: SampleSet): Sample[] {
  const samples = sets.get(set);
  if (!samples) throw new Error(`The set "${set}" was asked for before it was read.`);
  return samples;
}
