// The Worker that owns the GPU: takes tasks, runs them side by side in turns, and answers with events
// and one result each. The device is opened by the first task that needs it.

import { loadChoices, saveChoices } from "../../kernels/gpu/autotune.ts";
import { type Gpu, openGpu } from "../../kernels/gpu/gpu.ts";
import { cancelCheck, type TaskContext } from "./context.ts";
import type { EngineReply, EngineRequest, Task, TaskError } from "./messages.ts";
import { gpuModelLoader, ModelCache } from "./model_cache.ts";
import { runTask } from "./tasks.ts";
import { createTurns } from "./turns.ts";

declare const self: DedicatedWorkerGlobalScope;
interface DedicatedWorkerGlobalScope {
  onmessage: (event: MessageEvent<EngineRequest>) => void;
  postMessage(reply: EngineReply): void;
  close(): void;
}

interface Opened {
  gpu: Gpu;
  models: ModelCache;
  /** Kernel choices that are on disk. */
  savedChoices: number;
}

const turns = createTurns();
let opened: Promise<Opened> | null = null;
let choicesPath: string | null = null;

async function open(): Promise<Opened> {
  const gpu = await openGpu();
  if (choicesPath) await loadChoices(gpu, choicesPath);
  const models = new ModelCache(gpuModelLoader(gpu), weightBudgetBytes(gpu));
  return { gpu, models, savedChoices: gpu.choices.size };
}

/** A software adapter shares the machine's memory; a GPU's size is not told by WebGPU. */
function weightBudgetBytes(gpu: Gpu): number {
  if (!gpu.facts.software) return 64 * 2 ** 30;
  return Deno.systemMemoryInfo().available * 0.6;
}

/** A device that failed to open, was lost, or refused a command is opened anew for the next task. */
async function device(): Promise<Opened> {
  opened ??= open();
  try {
    return await opened;
  } catch (error) {
    opened = null;
    throw error;
  }
}

/** Tasks that are still at work on a failed device fail at their next sync. */
async function closeFailed(): Promise<void> {
  const current = opened;
  const failed = await current?.then((all) => all.gpu.failed ? all : null, () => null);
  if (!failed) return;
  if (opened === current) opened = null;
  failed.models.close();
  failed.gpu.close();
}

async function saveNewChoices(): Promise<void> {
  const current = await opened?.catch(() => null);
  if (!choicesPath || !current || current.gpu.choices.size === current.savedChoices) return;
  current.savedChoices = current.gpu.choices.size;
  await saveChoices(current.gpu, choicesPath);
}

let running = 0;

async function run(id: string, task: Task, cancel: SharedArrayBuffer): Promise<void> {
  running++;
  try {
    const context: TaskContext = {
      turns,
      device: async () => ({ ...context, ...await device() }),
      emit: (event) => self.postMessage({ type: "event", id, event }),
      checkCancelled: cancelCheck(cancel),
    };
    const result = await runTask(context, task);
    await saveNewChoices();
    self.postMessage({ type: "done", id, result });
  } catch (error) {
    await closeFailed();
    self.postMessage({ type: "failed", id, error: describe(error) });
  } finally {
    if (--running === 0) await opened?.then(({ gpu }) => gpu.pool.trim(), () => {});
  }
}

function describe(error: unknown): TaskError {
  const { name, message, param, code, stack } = error as Partial<TaskError> & { stack?: string };
  const known = typeof code === "string" && param !== undefined;
  return {
    name: name ?? "Error",
    message: known ? message ?? "" : `Internal error: ${stack ?? message ?? String(error)}`,
    param: param ?? null,
    code: known ? code : "internal_error",
  };
}

self.onmessage = ({ data }) => {
  if (data.type === "open") {
    choicesPath = data.choicesPath;
  } else if (data.type === "run") {
    run(data.id, data.task, data.cancel);
  } else {
    self.close();
  }
};
self.postMessage({ type: "ready" });
