// What a call's implementation is given inside a text worker: ways to say what it does and that it gets
// on, and to send what is not the answer itself.

import type { TaskEvent } from "../messages.ts";
import type { Stage, TextLimits } from "./stage.ts";

export interface TextCall {
  limits: TextLimits;
  /** Says what is done from now on, and for how long it may show no progress. */
  begin(stage: Stage): void;
  /** A sign of progress; `item` is the number, from 1, of the sample that is taken up now. */
  progress(item?: number): void;
  /** Sends an event of the task that made the call. */
  emit(event: TaskEvent): void;
}
