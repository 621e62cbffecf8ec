// The server's side of the engine: starts the Worker that owns the GPU and runs tasks on it.
// Nothing here touches the GPU, so the server answers while the GPU works.

import { Cancelled, GpuError, InvalidFile, InvalidRequest, NumericError } from "../errors.ts";
import type {
  EngineReply,
  EngineRequest,
  Task,
  TaskError,
  TaskEvent,
  TaskResults,
} from "./messages.ts";

/** What the server needs of an engine; tests put a fake in its place. */
export interface Engine {
  /**
   * Runs one task to its end. Tasks started together take turns on the GPU, step by step.
   * `signal` asks it to stop at its next step; the promise then rejects with `Cancelled`.
   */
  run<K extends Task["kind"]>(
    task: Extract<Task, { kind: K }>,
    onEvent?: (event: TaskEvent) => void,
    signal?: AbortSignal,
  ): Promise<TaskResults[K]>;
  close(): Promise<void>;
}

interface Running {
  resolve(result: unknown): void;
  reject(error: Error): void;
  onEvent: ((event: TaskEvent) => void) | undefined;
}

const errorClasses = { InvalidFile, InvalidRequest, GpuError, NumericError } as const;

function revive(error: TaskError): Error {
  if (error.name === "Cancelled") return new Cancelled(error.message);
  const known = errorClasses[error.name as keyof typeof errorClasses];
  if (known) return new known(error.message, error.param, error.code);
  return new Error(error.message);
}

/**
 * Starts the Worker. `choicesPath` is where measured kernel choices are kept between runs.
 * @throws {GpuError} later, from `run`, when no adapter can be had.
 */
export function startEngine({ choicesPath = null }: { choicesPath?: string | null } = {}): Engine {
  const worker = new Worker(new URL("./worker.ts", import.meta.url), {
    type: "module",
    name: "engine",
  });
  const running = new Map<string, Running>();
  let nextId = 1;
  let failure: Error | null = null;

  worker.onmessage = ({ data }: MessageEvent<EngineReply>) => {
    if (data.type === "ready") return;
    const task = running.get(data.id);
    if (!task) return;
    if (data.type === "event") return task.onEvent?.(data.event);
    running.delete(data.id);
    if (data.type === "done") task.resolve(data.result);
    else task.reject(revive(data.error));
  };
  worker.onerror = (event) => {
    event.preventDefault();
    failure = new GpuError(`The engine stopped: ${event.message}. Restart the server.`);
    for (const task of running.values()) task.reject(failure);
    running.clear();
  };

  const send = (request: EngineRequest) => worker.postMessage(request);

  send({ type: "open", choicesPath });

  return {
    run(task, onEvent, signal) {
      if (failure) return Promise.reject(failure);
      const id = `task-${nextId++}`;
      const cancel = new SharedArrayBuffer(4);
      const onAbort = () => Atomics.store(new Int32Array(cancel), 0, 1);
      if (signal?.aborted) onAbort();
      signal?.addEventListener("abort", onAbort);
      return new Promise<never>((resolve, reject) => {
        running.set(id, { resolve: resolve as (r: unknown) => void, reject, onEvent });
        send({ type: "run", id, task, cancel });
      }).finally(() => signal?.removeEventListener("abort", onAbort));
    },
    close() {
      send({ type: "close" });
      worker.terminate();
      return Promise.resolve();
    },
  };
}
