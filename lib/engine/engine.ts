// The server's side of the engine: starts the Worker that owns the GPU, runs tasks on it, and starts
// another when it dies or gives no sign of life. The tasks it was at then fail; those that had not begun go
// to the new one. Nothing here touches the GPU, so the server answers while the GPU works.

import { getLogger } from "@logtape/logtape";
import { Cancelled, GpuError } from "../errors.ts";
import type { GpuTask, Task, TaskEvent, TaskResults, TextTask } from "./messages.ts";
import type { EngineReply, EngineRequest, FromText } from "./protocol.ts";
import { describeError, reviveError } from "./task_error.ts";
import { inspectFile } from "./tasks/inspect_file.ts";
import type { TeacherReply } from "./text/messages.ts";
import { type TaskTexts, TextPool, type TextPoolOptions } from "./text/pool.ts";
import { memoryOf } from "./text/rows.ts";

const logger = getLogger(["lorapar", "engine"]);

/** What the server needs of an engine; tests put a fake in its place. */
export interface Engine {
  /**
   * Runs one task to its end. Tasks started together take turns on the GPU, step by step.
   * `signal` asks it to stop at its next step; the promise then rejects with `Cancelled`.
   * @throws {GpuError} code "engine_stopped" when the engine died at it, "engine_down" when it cannot be
   * started now and the task has not begun; it may be run again.
   */
  run<K extends Task["kind"]>(
    task: Extract<Task, { kind: K }>,
    onEvent?: (event: TaskEvent) => void,
    signal?: AbortSignal,
  ): Promise<TaskResults[K]>;
  /** Why no task can run now, e.g. while the engine is started again; null when one can. */
  problem(): string | null;
  /** Asks the tasks to stop, and after a moment ends them. */
  close(): Promise<void>;
}

export interface EngineOptions {
  /** Where measured kernel choices are kept between runs; null measures anew. */
  choicesPath?: string | null;
  /** Silence after which the engine counts as hung. */
  silenceMs?: number;
  /** How long `close` waits for the tasks' next step. */
  graceMs?: number;
  workerUrl?: URL;
  texts?: Partial<TextPoolOptions>;
}

/**
 * Reading a result back blocks the Worker for as long as the GPU computes it. On a GPU that is seconds; a
 * training step of a model of a billion parameters takes ten minutes on two CPU cores.
 */
const defaultSilenceMs = 1_800_000;
/** Starts in a row that end before the Worker said anything, until tasks are no longer kept for it. */
const maxFailedStarts = 3;

interface Running {
  id: string;
  task: GpuTask;
  texts: TaskTexts;
  /** Text calls at work. */
  textCalls: number;
  /** What the task's text call waits for of the engine's thread. */
  asked: PromiseWithResolvers<Uint32Array[]> | null;
  /** One i32, 1 once the task should stop; a busy Worker cannot receive messages. */
  cancel: SharedArrayBuffer;
  begun: boolean;
  onEvent: ((event: TaskEvent) => void) | undefined;
  resolve(result: unknown): void;
  reject(error: Error): void;
}

type TextAsked = Extract<EngineReply, { type: "text" }>;

function isTextTask(task: Task): task is TextTask {
  return task.kind === "describe_model" || task.kind === "inspect_file";
}

function settle(asked: Running["asked"], reply: TeacherReply): void {
  if ("tokens" in reply) asked?.resolve(reply.tokens);
  else asked?.reject(reviveError(reply.error));
}

function logFault(message: string): void {
  logger.error("The engine met an error: {message}", { message });
}

class SupervisedEngine implements Engine {
  readonly #options: Required<EngineOptions>;
  readonly #tasks = new Map<string, Running>();
  readonly #texts: TextPool;
  #nextId = 1;
  #worker: Worker | null = null;
  /** Whether the present Worker has said anything. */
  #spoke = false;
  #failedStarts = 0;
  #problem: string | null = "The engine is starting.";
  #heart = new Int32Array(new SharedArrayBuffer(4));
  #watch: ReturnType<typeof setInterval> | undefined;
  #restart: ReturnType<typeof setTimeout> | undefined;
  #closed = false;

  constructor(options: Required<EngineOptions>) {
    this.#options = options;
    this.#texts = new TextPool(options.texts);
    this.#start();
  }

  problem(): string | null {
    return this.#problem;
  }

  run<K extends Task["kind"]>(
    task: Extract<Task, { kind: K }>,
    onEvent?: (event: TaskEvent) => void,
    signal?: AbortSignal,
  ): Promise<TaskResults[K]> {
    if (this.#closed) return Promise.reject(new Cancelled("The server is stopping."));
    if (signal?.aborted) return Promise.reject(new Cancelled("Cancelled by request."));
    if (isTextTask(task)) return this.#runText(task, signal) as Promise<TaskResults[K]>;
    if (this.#failedStarts >= maxFailedStarts) {
      return Promise.reject(new GpuError(this.#problem!, null, "engine_down"));
    }
    const { promise, resolve, reject } = Promise.withResolvers<TaskResults[K]>();
    const running: Running = {
      id: `task-${this.#nextId++}`,
      task: task as GpuTask,
      texts: this.#texts.forTask(onEvent),
      textCalls: 0,
      asked: null,
      cancel: new SharedArrayBuffer(4),
      begun: false,
      onEvent,
      resolve: resolve as (result: unknown) => void,
      reject,
    };
    this.#tasks.set(running.id, running);
    this.#send(running);
    const onAbort = () => this.#cancel(running);
    signal?.addEventListener("abort", onAbort);
    return promise.finally(() => {
      this.#tasks.delete(running.id);
      running.texts.end();
      signal?.removeEventListener("abort", onAbort);
    });
  }

  /** A task that one text worker does alone. */
  async #runText(task: TextTask, signal?: AbortSignal): Promise<TaskResults[TextTask["kind"]]> {
    const texts = this.#texts.forTask();
    const onAbort = () => texts.end();
    signal?.addEventListener("abort", onAbort);
    try {
      return task.kind === "inspect_file"
        ? await inspectFile(texts, task)
        : await texts.call(task.kind, task);
    } finally {
      texts.end();
      signal?.removeEventListener("abort", onAbort);
    }
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#problem = "The server is stopping.";
    for (const task of this.#tasks.values()) this.#cancel(task);
    const endMs = performance.now() + this.#options.graceMs;
    while (this.#tasks.size > 0 && performance.now() < endMs) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    this.#stop();
    this.#texts.close();
    clearTimeout(this.#restart);
    for (const task of this.#tasks.values()) {
      task.reject(new Cancelled("The server stopped before this ended."));
    }
  }

  /** What is on the GPU stops at its next step; what has not begun, or is at its texts, is answered at once. */
  #cancel(task: Running): void {
    Atomics.store(new Int32Array(task.cancel), 0, 1);
    const isOnGpu = task.begun && task.textCalls === 0;
    task.texts.end();
    if (!isOnGpu) task.reject(new Cancelled("Cancelled by request."));
  }

  #start(): void {
    const heart = new SharedArrayBuffer(4);
    this.#heart = new Int32Array(heart);
    this.#spoke = false;
    const worker = new Worker(this.#options.workerUrl, { type: "module", name: "engine" });
    this.#worker = worker;
    // What a Worker that was given up still says is nobody's.
    worker.onmessage = ({ data }: MessageEvent<EngineReply>) => {
      if (worker === this.#worker) this.#receive(data);
    };
    worker.onerror = (event) => {
      event.preventDefault();
      if (worker === this.#worker) this.#fail(event.message);
    };
    const open: EngineRequest = { type: "open", choicesPath: this.#options.choicesPath, heart };
    worker.postMessage(open);
    for (const task of this.#tasks.values()) this.#send(task);
    this.#watchHeart();
  }

  #send({ id, task, cancel }: Running): void {
    const request: EngineRequest = { type: "run", id, task, cancel };
    this.#worker?.postMessage(request);
  }

  #receive(reply: EngineReply): void {
    this.#spoke = true;
    this.#failedStarts = 0;
    if (reply.type === "device") {
      const { problem } = reply;
      if (problem && problem !== this.#problem) logger.warn("No GPU: {problem}", { problem });
      if (!this.#closed) this.#problem = problem;
      return;
    }
    if (reply.type === "fault") {
      return logFault(reply.message);
    }
    const task = this.#tasks.get(reply.id);
    if (!task) {
      // It was cancelled; the engine has not heard of that yet, and must not wait for an answer.
      if (reply.type === "text") this.#refuseText(reply.call);
      return;
    }
    if (reply.type === "begun") task.begun = true;
    else if (reply.type === "event") task.onEvent?.(reply.event);
    else if (reply.type === "text") this.#callText(task, reply);
    else if (reply.type === "text_reply") settle(task.asked, reply.reply);
    else if (reply.type === "done") task.resolve(reply.result);
    else task.reject(reviveError(reply.error));
  }

  #refuseText(call: number): void {
    const error = describeError(new Cancelled("Cancelled by request."), logFault);
    const message: FromText = { type: "text_failed", call, error };
    this.#worker?.postMessage(message);
  }

  /** Makes a call for the engine's thread and passes on what comes of it. */
  async #callText(task: Running, { call, request }: TextAsked): Promise<void> {
    const worker = this.#worker;
    const pass = (message: FromText, memory: ArrayBuffer[] = []) =>
      worker?.postMessage(message, memory);
    task.textCalls++;
    try {
      const result = await task.texts.call(request.kind, request.args, {
        onRows: (rows) => pass({ type: "text_rows", call, rows }, memoryOf(rows)),
        onAsk(ask) {
          task.asked = Promise.withResolvers();
          pass({ type: "text_ask", call, ask });
          return task.asked.promise;
        },
      });
      pass({ type: "text_done", call, result });
    } catch (error) {
      pass({ type: "text_failed", call, error: describeError(error, logFault) });
    } finally {
      task.textCalls--;
    }
  }

  /** Counts silence by its own ticks, so that a machine that slept is no reason to restart. */
  #watchHeart(): void {
    const { silenceMs } = this.#options;
    const tickMs = Math.min(1000, silenceMs / 4);
    let last = 0;
    let silentTicks = 0;
    const watch = setInterval(() => {
      const beats = Atomics.load(this.#heart, 0);
      silentTicks = beats === last ? silentTicks + 1 : 0;
      last = beats;
      if (silentTicks * tickMs < silenceMs) return;
      const seconds = Math.round(silenceMs / 1000);
      // In this runtime `terminate` ends no thread that computes: it goes on until the process ends.
      logger.error(
        "The engine's old thread may keep a core busy. Restart the server when you can.",
      );
      this.#fail(`it gave no sign of life for ${seconds} s (limits.engine_silence_seconds)`);
    }, tickMs);
    Deno.unrefTimer(watch);
    this.#watch = watch;
  }

  #stop(): void {
    clearInterval(this.#watch);
    this.#worker?.terminate();
    this.#worker = null;
  }

  /** Ends the Worker, fails what it was at, and starts another: at once, or later when starts fail. */
  #fail(reason: string): void {
    this.#stop();
    if (this.#closed) return;
    if (!this.#spoke) this.#failedStarts++;
    const isLost = this.#failedStarts >= maxFailedStarts;
    this.#problem = `The engine stopped: ${reason}. It is being started again.`;
    logger.error("{problem}", { problem: this.#problem });
    const message = `The engine stopped while this ran: ${reason}. Send the request again.`;
    for (const task of this.#tasks.values()) {
      if (task.begun) task.reject(new GpuError(message, null, "engine_stopped"));
      else if (isLost) task.reject(new GpuError(this.#problem, null, "engine_down"));
    }
    const delayMs = this.#failedStarts === 0 ? 0 : Math.min(30_000, 100 * 2 ** this.#failedStarts);
    this.#restart = setTimeout(() => this.#start(), delayMs);
  }
}

/** Starts the Worker, which opens the GPU. @throws {GpuError} later, from `run`, when there is none. */
export function startEngine({
  choicesPath = null,
  silenceMs = defaultSilenceMs,
  graceMs = 2000,
  workerUrl = new URL("./worker.ts", import.meta.url),
  texts = {},
}: EngineOptions = {}): Engine {
  return new SupervisedEngine({ choicesPath, silenceMs, graceMs, workerUrl, texts });
}
