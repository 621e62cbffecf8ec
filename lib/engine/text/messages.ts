// The typed messages between the server and its text workers. The GPU's thread knows token ids and
// numbers; everything that reads, renders, tokenizes or judges a text of the user's happens in a text
// worker, one call at a time. All messages are plain data. Long results come in pieces.

import type {
  FileReference,
  InspectFileResult,
  ModelReference,
  TaskError,
  TaskEvent,
} from "../messages.ts";
import type { ChoiceState } from "./choice_state.ts";
import type { Stage, TextLimits } from "./stage.ts";

/** A model as far as its texts go: the id the user gave, and the files that its tokenizer comes from. */
export type TextModel = Pick<ModelReference, "id" | "path">;

/** Every call: what it takes and what it answers. */
export interface TextCalls {
  inspect_file: {
    args: { file: FileReference };
    result: InspectFileResult;
  };
  describe_model: {
    args: { model: ModelReference };
    result: Record<string, unknown>;
  };
  /** A chat's prompt; refused when it leaves the model no room for an answer. */
  encode_chat: {
    args: { model: TextModel; messages: { role: string; content: string }[] };
    result: { tokens: Uint32Array };
  };
  /** The texts of new tokens of a chat's choices. */
  decode_chat: {
    args: { model: TextModel; stop: string[]; choices: NewTokens[] };
    result: NewText[];
  };
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
  call<K extends TextKind>(kind: K, args: TextCalls[K]["args"]): Promise<TextCalls[K]["result"]>;
}

/** What a worker is started with. */
export interface TextWorkerData {
  limits: TextLimits;
  /** Int32 words: signs of progress counted, and the number of the item at work. */
  progress: SharedArrayBuffer;
}

/** Server to text worker; the next one is sent when the last was answered. */
export type TextRequest = {
  [K in TextKind]: { kind: K; args: TextCalls[K]["args"] };
}[TextKind];

/** Text worker to server. */
export type TextReply =
  | { type: "stage"; stage: Stage }
  | { type: "event"; event: TaskEvent }
  /** An error of our own, for the log. */
  | { type: "fault"; message: string }
  | { type: "done"; result: TextCalls[TextKind]["result"] }
  /** `isBroken`: something went wrong beside the call, so the worker is not used again. */
  | { type: "failed"; error: TaskError; isBroken: boolean };
