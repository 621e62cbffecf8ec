// What every task of the engine is given: a way to the GPU and its models, turns on it, and a way to
// tell the server what happens. The device is opened when a task asks for it, so that what needs none is
// answered without one, and a request that cannot be served is refused for its own reason.

import type { Gpu } from "../../kernels/gpu/gpu.ts";
import { Cancelled } from "../errors.ts";
import type { TaskEvent } from "./messages.ts";
import type { ModelCache, ModelUse } from "./model_cache.ts";
import type { Texts } from "./text/messages.ts";
import type { Turns } from "./turns.ts";

export interface TaskContext {
  turns: Turns;
  /** Reads, renders, tokenizes and judges texts, on other threads than the GPU's. */
  texts: Texts;
  /** This context with the GPU, opened now where no task has yet. @throws {GpuError} without one. */
  device(): Promise<GpuContext>;
  emit(event: TaskEvent): void;
  /** @throws {Cancelled} once the user has cancelled. */
  checkCancelled(): void;
}

export interface GpuContext extends TaskContext {
  gpu: Gpu;
  models: ModelCache;
}

/** Reads the flag the server sets; a busy Worker cannot receive messages. */
export function cancelCheck(flag: SharedArrayBuffer): () => void {
  const word = new Int32Array(flag);
  return () => {
    if (Atomics.load(word, 0) === 1) throw new Cancelled("Cancelled by request.");
  };
}

/** Emits progress with an estimate from the pace so far. */
export function progressOf(
  context: Pick<TaskContext, "emit">,
  phase: string,
  unit: string,
): (done: number, total: number) => void {
  const begin = performance.now();
  return (done, total) => {
    const seconds = (performance.now() - begin) / 1000;
    const etaSeconds = done > 0 ? Math.round(seconds / done * (total - done)) : null;
    context.emit({ type: "progress", progress: { phase, done, total, unit, etaSeconds } });
  };
}

/** How a task asks for a model: loading it takes a turn and shows as progress. */
export function modelUse(context: TaskContext): ModelUse {
  const { turns, checkCancelled } = context;
  return { turns, checkCancelled, onProgress: progressOf(context, "loading", "tensors") };
}
