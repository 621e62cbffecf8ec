// The engine's end of text calls. The GPU's thread blocks for as long as a step takes, so it neither starts
// text workers nor watches them: the server does, and passes calls and answers on.

import { describeError, reviveError } from "../task_error.ts";
import type { EngineReply, FromText } from "../protocol.ts";
import type {
  CallHooks,
  TeacherAsk,
  TeacherReply,
  TextCalls,
  TextKind,
  TextRequest,
  Texts,
} from "./messages.ts";

interface Waiting extends PromiseWithResolvers<unknown> {
  /** The task that made the call. */
  id: string;
  hooks: CallHooks;
}

export class TextRelay {
  #waiting = new Map<number, Waiting>();
  #next = 1;

  constructor(
    private post: (reply: EngineReply) => void,
    private fault: (message: string) => void,
  ) {}

  /** The way of a task to text workers. */
  forTask(id: string): Texts {
    return {
      call: <K extends TextKind>(
        kind: K,
        args: TextCalls[K]["args"],
        hooks: CallHooks = {},
      ) => {
        const call = this.#next++;
        const waiting = { ...Promise.withResolvers<unknown>(), id, hooks };
        this.#waiting.set(call, waiting);
        this.post({ type: "text", id, call, request: { kind, args } as TextRequest });
        return waiting.promise as Promise<TextCalls[K]["result"]>;
      },
    };
  }

  /** Takes what the server passes on. */
  take(message: FromText): void {
    const { call } = message;
    const waiting = this.#waiting.get(call);
    if (!waiting) return;
    switch (message.type) {
      case "text_rows":
        return waiting.hooks.onRows?.(message.rows);
      case "text_ask":
        this.#answer(waiting, message.ask);
        return;
    }
    this.#waiting.delete(call);
    if (message.type === "text_done") waiting.resolve(message.result);
    else waiting.reject(reviveError(message.error));
  }

  async #answer({ id, hooks }: Waiting, ask: TeacherAsk): Promise<void> {
    let reply: TeacherReply;
    try {
      reply = { tokens: await hooks.onAsk!(ask) };
    } catch (error) {
      reply = { error: describeError(error, this.fault) };
    }
    this.post({ type: "text_reply", id, reply });
  }
}
