// The server's end of one text worker: sends it calls, watches that they get on, and ends it when one does
// not, when the task is cancelled, or when it breaks. Only the call at work is lost with it.
// A Worker of node:worker_threads, because that one can be given a limit of memory: past it the call ends,
// not the process.

import { getLogger } from "@logtape/logtape";
import { Worker } from "node:worker_threads";
import type { TaskEvent } from "../messages.ts";
import { describeError, reviveError } from "../task_error.ts";
import type {
  CallHooks,
  TeacherAsk,
  TeacherReply,
  TextCalls,
  TextKind,
  TextReply,
  TextWorkerData,
  ToTextWorker,
} from "./messages.ts";
import { type Stage, stageError, type TextLimits } from "./stage.ts";

const logger = getLogger(["lorapar", "engine"]);

export interface TextWorkerOptions {
  limits: TextLimits;
  workerUrl: URL;
  /** JavaScript memory of the worker. */
  maxHeapMebibytes: number;
}

/** What the server passes on of a call besides its answer. */
export interface WorkerHooks extends CallHooks {
  onEvent?(event: TaskEvent): void;
}

interface Current {
  hooks: WorkerHooks;
  stage: Stage;
  resolve(result: unknown): void;
  reject(error: Error): void;
}

function logFault(message: string): void {
  logger.error("A text worker met an error: {message}", { message });
}

/** Looks at a worker's progress this often. */
const watchMs = 50;

export class TextWorker {
  #worker: Worker;
  #progress: Int32Array;
  #current: Current | null = null;
  /** Why the worker takes no more calls. */
  #ended: Error | null = null;
  #seen = -1;
  #silentMs = 0;
  #watch: ReturnType<typeof setInterval> | null = null;

  constructor(private options: TextWorkerOptions) {
    const progress = new SharedArrayBuffer(8);
    this.#progress = new Int32Array(progress);
    const { limits, workerUrl, maxHeapMebibytes } = options;
    this.#worker = new Worker(workerUrl, {
      name: "text",
      workerData: { limits, progress } satisfies TextWorkerData,
      resourceLimits: { maxOldGenerationSizeMb: maxHeapMebibytes },
    });
    this.#worker.on("message", (reply: TextReply) => this.#take(reply));
    this.#worker.on("error", (error: Error & { code?: string }) => {
      const isMemory = error.code === "ERR_WORKER_OUT_OF_MEMORY";
      this.#break(
        isMemory ? `it takes more than ${maxHeapMebibytes} MiB of memory` : error.message,
      );
    });
    this.#worker.on("exit", () => this.#break("its thread ended"));
  }

  /** False once the worker was ended or broke: it takes no more calls. */
  get isUsable(): boolean {
    return this.#ended === null;
  }

  /** Makes one call; there is one at a time. @throws as `Texts.call` */
  call<K extends TextKind>(
    kind: K,
    args: TextCalls[K]["args"],
    hooks: WorkerHooks = {},
  ): Promise<TextCalls[K]["result"]> {
    if (this.#ended) return Promise.reject(this.#ended);
    if (this.#current) throw new Error("A text worker was given a call while at another.");
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    const { startMs: limitMs } = this.options.limits;
    const advice = "Restart the server if that does not help itself.";
    this.#current = {
      hooks,
      resolve,
      reject,
      stage: { doing: "start a text worker", source: "request", param: null, limitMs, advice },
    };
    this.#seen = -1;
    this.#watch = setInterval(() => this.#look(), watchMs);
    this.#post({ kind, args } as ToTextWorker);
    return promise as Promise<TextCalls[K]["result"]>;
  }

  /** Ends the worker; a call at work fails with `error`. */
  end(error: Error): void {
    this.#ended ??= error;
    this.#settle()?.reject(error);
    this.#worker.terminate();
  }

  #take(reply: TextReply): void {
    const current = this.#current;
    switch (reply.type) {
      case "stage":
        if (!current) return;
        current.stage = reply.stage;
        this.#seen = -1;
        return;
      case "event":
        return current?.hooks.onEvent?.(reply.event);
      case "rows":
        return current?.hooks.onRows?.(reply.rows);
      case "ask":
        if (current) this.#askTeacher(current, reply.ask);
        return;
      case "fault":
        return logFault(reply.message);
      case "done":
        return this.#settle()?.resolve(reply.result);
      case "failed":
        if (reply.isBroken) this.end(reviveError(reply.error));
        else this.#settle()?.reject(reviveError(reply.error));
    }
  }

  async #askTeacher({ hooks }: Current, ask: TeacherAsk): Promise<void> {
    let reply: TeacherReply;
    try {
      reply = { tokens: await hooks.onAsk!(ask) };
    } catch (error) {
      reply = { error: describeError(error, logFault) };
    }
    if (this.isUsable) this.#post({ kind: "teacher_reply", reply });
  }

  #post(message: ToTextWorker): void {
    this.#worker.postMessage(message);
  }

  /** Ends the call at work. */
  #settle(): Current | null {
    const current = this.#current;
    this.#current = null;
    if (this.#watch !== null) clearInterval(this.#watch);
    this.#watch = null;
    return current;
  }

  #break(what: string): void {
    if (!this.isUsable) return;
    this.end(this.#errorNow(what));
  }

  #errorNow(what: string): Error {
    const { stage } = this.#current ?? {};
    return stage ? stageError(stage, what, Atomics.load(this.#progress, 1)) : new Error(what);
  }

  /** Ends a call that showed no progress for its limit, counted in looks: a machine may have slept. */
  #look(): void {
    const current = this.#current;
    if (!current) return;
    const count = Atomics.load(this.#progress, 0);
    this.#silentMs = count === this.#seen ? this.#silentMs + watchMs : 0;
    this.#seen = count;
    if (this.#silentMs > current.stage.limitMs) {
      // Work that runs out of memory may end without a word; this thread then goes on, and the call does not.
      const seconds = Number((current.stage.limitMs / 1000).toPrecision(3));
      const { maxHeapMebibytes } = this.options;
      this.#break(
        `it made no progress for ${seconds} s, or took more than ${maxHeapMebibytes} MiB of memory`,
      );
    }
  }
}
