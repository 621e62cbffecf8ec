// What a text worker is doing, and how long it may do so without a sign of progress. A stage that shows
// none for its limit is ended with its worker: a data set, a template and a tokenizer's patterns are the
// user's, and any of them may run for ever.

import { InvalidFile, InvalidRequest } from "../../errors.ts";

export interface Stage {
  /** E.g. "read train.jsonl", as it follows "Cannot". */
  doing: string;
  /** What is at fault when it does not end: a file (data set or model) or the request's own text. */
  source: "file" | "request";
  /** The request's field that named it. */
  param: string | null;
  /** Longest time without a sign of progress. */
  limitMs: number;
  /** What the user can do about it. */
  advice: string;
}

/** Limits by what is done, all of them times without a sign of progress; tests set shorter ones. */
export interface TextLimits {
  /** A chat's messages or its next tokens: milliseconds of work, since longer ones are refused before. */
  chatMs: number;
  /** One sample rendered, scored or graded; its text is bounded by the model's positions. */
  sampleMs: number;
  /** Reading a file: a fixed part, and a part that grows with it. Ten times what a slow machine takes. */
  fileMs: number;
  fileMsPerMebibyte: number;
  /** Starting a worker: loading its modules. */
  startMs: number;
}

export const textLimits: TextLimits = {
  chatMs: 10_000,
  sampleMs: 30_000,
  fileMs: 30_000,
  fileMsPerMebibyte: 1_000,
  startMs: 60_000,
};

/** How long reading a file of this size may be silent. */
export function fileLimitMs(limits: TextLimits, sizeBytes: number): number {
  return limits.fileMs + limits.fileMsPerMebibyte * sizeBytes / 2 ** 20;
}

/** Doing the same with each of many samples. */
export function samplesStage({ sampleMs }: TextLimits, doing: string): Stage {
  return {
    doing,
    source: "request",
    param: "file",
    limitMs: sampleMs,
    advice:
      "Shorten that sample or leave it out; if none passes, the model's tokenizer or chat template " +
      "is at fault: use another model.",
  };
}

/** The error of a stage that was ended or that broke; `item` is what it was at, counted from 1, or 0. */
export function stageError(stage: Stage, what: string, item = 0): InvalidFile | InvalidRequest {
  const { doing, source, param, advice } = stage;
  const message = `Cannot ${doing}: ${what}${item > 0 ? ` at sample ${item}` : ""}. ${advice}`;
  return source === "file" ? new InvalidFile(message, param) : new InvalidRequest(message, param);
}
