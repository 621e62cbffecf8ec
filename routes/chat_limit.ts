// How many chats run at a time. Each holds keys and values on the GPU between its turns, so more of them
// than the limit are sent away, to come again, instead of being held.

import { getLogger } from "@logtape/logtape";
import type { Engine } from "../lib/engine/engine.ts";
import type { ChatResult, ChatTask, TaskEvent } from "../lib/engine/messages.ts";
import { InvalidRequest } from "../lib/errors.ts";

const logger = getLogger(["lorapar", "chat"]);

export type RunChat = (
  task: ChatTask,
  onEvent: ((event: TaskEvent) => void) | undefined,
  signal: AbortSignal,
) => Promise<ChatResult>;

/** Runs chats on the engine, which throws InvalidRequest "too_many_chats" while `most` are running. */
export function limitedChats(engine: Engine, most: number): RunChat {
  let running = 0;
  return async (task, onEvent, signal) => {
    if (running >= most) {
      throw new InvalidRequest(
        `Cannot chat now: ${running} chats are running. Try again in a moment, or raise limits.max_chats.`,
        null,
        "too_many_chats",
      );
    }
    running++;
    try {
      return await engine.run(task, (event) => {
        // A chat has no events that its user could read.
        if (event.type === "log") logger.warn("{message}", { message: event.message });
        onEvent?.(event);
      }, signal);
    } finally {
      running--;
    }
  };
}
