// What a call's implementation is given inside a text worker: ways to say what it does and that it gets
// on, to send what is not the answer itself, and what the task has read so far.

import type { TaskEvent } from "../messages.ts";
import type { TeacherAsk } from "./messages.ts";
import type { TokenRows } from "./rows.ts";
import type { Stage, TextLimits } from "./stage.ts";
import type { TaskState } from "./task_state.ts";

export interface TextCall {
  limits: TextLimits;
  state: TaskState;
  /** Says what is done from now on, and for how long it may show no progress. */
  begin(stage: Stage): void;
  /** A sign of progress; `item` is the number, from 1, of the sample that is taken up now. */
  progress(item?: number): void;
  /** Waits for others, who have deadlines of their own; that counts as progress. */
  waitFor<T>(others: Promise<T>): Promise<T>;
  /** Sends an event of the task that made the call. */
  emit(event: TaskEvent): void;
  sendRows(rows: TokenRows): void;
  /** Replies of a local teacher, tokens by prompt. @throws as the engine does */
  askTeacher(ask: TeacherAsk): Promise<Uint32Array[]>;
}
