// The text workers of a server. A chat's calls are short and hold nothing: each takes whichever of a few
// workers is free. Another task has a worker of its own from its first call to its end, which keeps what
// the task has read; so a chat never waits behind a data set, and a worker that is ended takes the work of
// one task with it, the guilty one's.

import { Cancelled, InvalidRequest } from "../../errors.ts";
import type { TaskEvent } from "../messages.ts";
import type { CallHooks, TextCalls, TextKind, Texts } from "./messages.ts";
import { type TextLimits, textLimits } from "./stage.ts";
import { TextWorker } from "./text_worker.ts";

export interface TextPoolOptions {
  limits: TextLimits;
  /** Workers for chats. Two, so that one that hangs does not hold up all. */
  chatWorkers: number;
  /** Tasks that have a worker of their own at a time; a further one waits. */
  taskWorkers: number;
  /** Memory of a chat's worker: the tokenizers of three models, of up to 64 MiB of JSON each. */
  chatHeapMebibytes: number;
  /** Memory of a task's worker: the largest data set, 1 GiB, takes about twice its size and more to judge. */
  taskHeapMebibytes: number;
  /** An idle chat worker is ended after this, to free its tokenizers; the next chat opens one anew. */
  chatIdleMs: number;
  /** As long as the next upload of a series may take; what a file left in memory goes with the worker. */
  taskIdleMs: number;
  workerUrl: URL;
}

function usualOptions(): TextPoolOptions {
  const machineMebibytes = Deno.systemMemoryInfo().total / 2 ** 20;
  return {
    limits: textLimits,
    chatWorkers: 2,
    taskWorkers: 4,
    chatHeapMebibytes: Math.min(2048, Math.floor(machineMebibytes / 2)),
    taskHeapMebibytes: Math.min(4096, Math.floor(machineMebibytes / 2)),
    chatIdleMs: 1_800_000,
    taskIdleMs: 10_000,
    workerUrl: new URL("./worker.ts", import.meta.url),
  };
}

const chatKinds: ReadonlySet<TextKind> = new Set<TextKind>(["encode_chat", "decode_chat"]);
/** Calls that leave nothing behind in a worker. */
const statelessKinds: ReadonlySet<TextKind> = new Set<TextKind>([
  "inspect_file",
  "describe_model",
]);

/** The way of one task to text workers. */
export interface TaskTexts extends Texts {
  /** Cancels what is at work or waits, and gives up the task's own worker. */
  end(): void;
}

export class TextPool {
  #chat: Slots;
  #task: Slots;

  constructor(options: Partial<TextPoolOptions> = {}) {
    const all = { ...usualOptions(), ...options };
    const make = (maxHeapMebibytes: number) => () =>
      new TextWorker({ limits: all.limits, workerUrl: all.workerUrl, maxHeapMebibytes });
    this.#chat = new Slots(all.chatWorkers, all.chatIdleMs, make(all.chatHeapMebibytes));
    this.#task = new Slots(all.taskWorkers, all.taskIdleMs, make(all.taskHeapMebibytes));
  }

  /** `onEvent` gets what the task's calls emit. */
  forTask(onEvent?: (event: TaskEvent) => void): TaskTexts {
    return new OneTask(this.#chat, this.#task, onEvent);
  }

  /** Ends every worker, and what they are at with it. */
  close(): void {
    this.#chat.close();
    this.#task.close();
  }
}

class OneTask implements TaskTexts {
  #own: Promise<TextWorker> | null = null;
  #isReusable = true;
  #ended = new AbortController();

  constructor(
    private chat: Slots,
    private task: Slots,
    private onEvent: ((event: TaskEvent) => void) | undefined,
  ) {}

  async call<K extends TextKind>(
    kind: K,
    args: TextCalls[K]["args"],
    hooks: CallHooks = {},
  ): Promise<TextCalls[K]["result"]> {
    if (chatKinds.has(kind)) return await this.#callChat(kind, args);
    this.#own ??= this.task.claim(this.#ended.signal);
    const worker = await this.#own;
    if (!statelessKinds.has(kind)) this.#isReusable = false;
    try {
      return await this.#run(worker, kind, args, hooks);
    } catch (error) {
      // Something of the failed call may still be under way, and would be laid to the next one.
      this.#isReusable = false;
      throw error;
    }
  }

  /** A cancelled chat's call is left to its end, which is near: the worker has tokenizers that others use. */
  async #callChat<K extends TextKind>(
    kind: K,
    args: TextCalls[K]["args"],
  ): Promise<TextCalls[K]["result"]> {
    const { signal } = this.#ended;
    const worker = await this.chat.claim(signal);
    const onEvent = (event: TaskEvent) => {
      if (!signal.aborted) this.onEvent?.(event);
    };
    const result = worker.call(kind, args, { onEvent }).finally(() => this.chat.release(worker));
    const gone = Promise.withResolvers<never>();
    const leave = () => gone.reject(cancelled());
    if (signal.aborted) leave();
    signal.addEventListener("abort", leave);
    try {
      return await Promise.race([result, gone.promise]);
    } finally {
      signal.removeEventListener("abort", leave);
    }
  }

  async #run<K extends TextKind>(
    worker: TextWorker,
    kind: K,
    args: TextCalls[K]["args"],
    hooks: CallHooks,
  ): Promise<TextCalls[K]["result"]> {
    const stop = () => worker.end(cancelled());
    if (this.#ended.signal.aborted) throw cancelled();
    this.#ended.signal.addEventListener("abort", stop);
    try {
      return await worker.call(kind, args, { ...hooks, onEvent: this.onEvent });
    } finally {
      this.#ended.signal.removeEventListener("abort", stop);
    }
  }

  end(): void {
    this.#ended.abort();
    this.#own?.then((worker) => {
      if (!this.#isReusable) worker.end(cancelled());
      this.task.release(worker);
    }, () => {});
    this.#own = null;
  }
}

interface Waiting {
  resolve(worker: TextWorker): void;
  reject(error: Error): void;
}

/** At most `max` workers at a time, first come first served; idle ones are kept for a while. */
class Slots {
  #used = new Set<TextWorker>();
  #idle = new Map<TextWorker, ReturnType<typeof setTimeout>>();
  #waiting: Waiting[] = [];
  #closed = false;

  constructor(
    private max: number,
    private idleMs: number,
    private make: () => TextWorker,
  ) {}

  /** A worker for the caller alone, until `release`. @throws {Cancelled} when `signal` aborts. */
  async claim(signal: AbortSignal): Promise<TextWorker> {
    if (signal.aborted) throw cancelled();
    if (this.#closed) throw stopping();
    if (this.#used.size < this.max) return this.#take();
    const waiting = Promise.withResolvers<TextWorker>();
    this.#waiting.push(waiting);
    const leave = () => {
      this.#waiting = this.#waiting.filter((one) => one !== waiting);
      waiting.reject(cancelled());
    };
    signal.addEventListener("abort", leave);
    try {
      return await waiting.promise;
    } finally {
      signal.removeEventListener("abort", leave);
    }
  }

  #take(): TextWorker {
    let worker = this.#idle.keys().next().value;
    if (worker) {
      clearTimeout(this.#idle.get(worker));
      this.#idle.delete(worker);
    }
    if (!worker?.isUsable) worker = this.make();
    this.#used.add(worker);
    return worker;
  }

  release(worker: TextWorker): void {
    if (!this.#used.delete(worker)) return;
    if (this.#closed) return worker.end(stopping());
    if (worker.isUsable) {
      const end = () => {
        this.#idle.delete(worker);
        worker.end(stopping());
      };
      const timer = setTimeout(end, this.idleMs);
      Deno.unrefTimer(timer);
      this.#idle.set(worker, timer);
    }
    if (this.#waiting.length > 0) this.#waiting.shift()!.resolve(this.#take());
  }

  close(): void {
    this.#closed = true;
    for (const { reject } of this.#waiting.splice(0)) reject(stopping());
    for (const worker of this.#used) worker.end(stopping());
    for (const [worker, timer] of this.#idle) {
      clearTimeout(timer);
      worker.end(stopping());
    }
    this.#idle.clear();
  }
}

function cancelled(): Cancelled {
  return new Cancelled("Cancelled by request.");
}

function stopping(): InvalidRequest {
  return new InvalidRequest("Cannot go on: the engine is stopping.", null, "unavailable");
}
