// What the server's thread and the engine's say to each other. All of it is plain data.

import type { GpuTask, TaskError, TaskEvent, TaskResults } from "./messages.ts";
import type {
  TeacherAsk,
  TeacherReply,
  TextCalls,
  TextKind,
  TextRequest,
} from "./text/messages.ts";
import type { TokenRows } from "./text/rows.ts";

/** What comes of a task's call for a text worker. */
export type FromText =
  | { type: "text_rows"; call: number; rows: TokenRows }
  | { type: "text_ask"; call: number; ask: TeacherAsk }
  | { type: "text_done"; call: number; result: TextCalls[TextKind]["result"] }
  | { type: "text_failed"; call: number; error: TaskError };

/** Server to engine. */
export type EngineRequest =
  /**
   * Sent first: where kernel choices are kept between runs, or null to measure anew, and the word (one
   * i32) that the engine counts up as long as it lives.
   */
  | { type: "open"; choicesPath: string | null; heart: SharedArrayBuffer }
  /** `cancel` is one i32, 1 once the task should stop. */
  | { type: "run"; id: string; task: GpuTask; cancel: SharedArrayBuffer }
  | FromText;

/** Engine to server. */
export type EngineReply =
  /** Why no device is open, or null once one is. */
  | { type: "device"; problem: string | null }
  /** An error that belongs to no task, for the log. */
  | { type: "fault"; message: string }
  /** The task has begun: it is not sent to another engine any more. */
  | { type: "begun"; id: string }
  | { type: "event"; id: string; event: TaskEvent }
  /** A call for a text worker, made by the task `id`. */
  | { type: "text"; id: string; call: number; request: TextRequest }
  /** The answer to what a call asked. */
  | { type: "text_reply"; id: string; reply: TeacherReply }
  | { type: "done"; id: string; result: TaskResults[keyof TaskResults] }
  | { type: "failed"; id: string; error: TaskError };
