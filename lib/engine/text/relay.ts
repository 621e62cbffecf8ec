// The engine's end of text calls. The GPU's thread blocks for as long as a step takes, so it neither starts
// text workers nor watches them: the server does, and passes calls and answers on.

import { reviveError } from "../task_error.ts";
import type { EngineReply, TextAnswer } from "../protocol.ts";
import type { TextCalls, TextKind, TextRequest, Texts } from "./messages.ts";

export class TextRelay {
  #waiting = new Map<number, PromiseWithResolvers<unknown>>();
  #next = 1;

  constructor(private post: (reply: EngineReply) => void) {}

  /** The way of a task to text workers. */
  forTask(id: string): Texts {
    return {
      call: <K extends TextKind>(kind: K, args: TextCalls[K]["args"]) => {
        const call = this.#next++;
        const waiting = Promise.withResolvers<unknown>();
        this.#waiting.set(call, waiting);
        this.post({ type: "text", id, call, request: { kind, args } as TextRequest });
        return waiting.promise as Promise<TextCalls[K]["result"]>;
      },
    };
  }

  /** Takes an answer the server passes on. */
  take(answer: TextAnswer): void {
    const waiting = this.#waiting.get(answer.call);
    this.#waiting.delete(answer.call);
    if (answer.type === "text_done") waiting?.resolve(answer.result);
    else waiting?.reject(reviveError(answer.error));
  }
}
