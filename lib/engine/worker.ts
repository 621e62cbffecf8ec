// The Worker that owns the GPU: takes tasks, runs them side by side in turns, and answers with events
// and one result each. An error that nobody catches belongs to no task that could be told; it is logged, and
// the Worker goes on. While this thread lives it counts up a word that the server watches.

import { guardKernels } from "../../kernels/check/self_check.ts";
import { type Gpu, openGpu } from "../../kernels/gpu/gpu.ts";
import { cancelCheck, type TaskContext } from "./context.ts";
import { GpuKeeper } from "./gpu_keeper.ts";
import type { GpuTask } from "./messages.ts";
import { gpuModelLoader, ModelCache } from "./model_cache.ts";
import type { EngineReply, EngineRequest } from "./protocol.ts";
import { describeError, stackOf } from "./task_error.ts";
import { runTask } from "./tasks.ts";
import { TextRelay } from "./text/relay.ts";
import { createTurns } from "./turns.ts";

declare const self: DedicatedWorkerGlobalScope;
interface DedicatedWorkerGlobalScope extends EventTarget {
  onmessage: (event: MessageEvent<EngineRequest>) => void;
  postMessage(reply: EngineReply): void;
}

interface Opened {
  gpu: Gpu;
  models: ModelCache;
  close(): void;
}

const turns = createTurns();
const texts = new TextRelay((reply) => self.postMessage(reply), fault);
const keeper = new GpuKeeper(open, (problem) => self.postMessage({ type: "device", problem }));
let choicesPath: string | null = null;
let heart = new Int32Array(new SharedArrayBuffer(4));

/** A sign of life; what keeps this thread from its timers calls it too. */
function beat(): void {
  Atomics.add(heart, 0, 1);
}

async function open(): Promise<Opened> {
  const gpu = await openGpu();
  try {
    await guardKernels(gpu, choicesPath);
  } catch (error) {
    gpu.close();
    throw error;
  }
  const models = new ModelCache(gpuModelLoader(gpu), weightBudgetBytes(gpu));
  const close = () => {
    models.close();
    gpu.close();
  };
  return { gpu, models, close };
}

/** A software adapter shares the machine's memory; a GPU's size is not told by WebGPU. */
function weightBudgetBytes(gpu: Gpu): number {
  if (!gpu.facts.software) return 64 * 2 ** 30;
  return Deno.systemMemoryInfo().available * 0.6;
}

let running = 0;

async function run(id: string, task: GpuTask, cancel: SharedArrayBuffer): Promise<void> {
  running++;
  self.postMessage({ type: "begun", id });
  try {
    const isCancelled = cancelCheck(cancel);
    const context: TaskContext = {
      turns,
      texts: texts.forTask(id),
      device: async () => ({ ...context, ...await keeper.get() }),
      emit: (event) => {
        beat();
        self.postMessage({ type: "event", id, event });
      },
      checkCancelled: () => {
        beat();
        isCancelled();
      },
    };
    context.checkCancelled();
    const result = await runTask(context, task);
    self.postMessage({ type: "done", id, result });
  } catch (error) {
    self.postMessage({ type: "failed", id, error: describeError(error, fault) });
  } finally {
    if (--running === 0) (await keeper.opened())?.gpu.pool.trim();
  }
}

function fault(message: string): void {
  self.postMessage({ type: "fault", message });
}

self.addEventListener("unhandledrejection", (event) => {
  event.preventDefault();
  fault(stackOf((event as PromiseRejectionEvent).reason));
});
self.addEventListener("error", (event) => {
  event.preventDefault();
  fault(stackOf((event as ErrorEvent).error));
});

self.onmessage = ({ data }) => {
  if (data.type === "run") {
    run(data.id, data.task, data.cancel);
    return;
  }
  if (data.type !== "open") return texts.take(data);
  choicesPath = data.choicesPath;
  heart = new Int32Array(data.heart);
  beat();
  setInterval(beat, 1000);
  // Before the first task asks, so that it is known whether there is one.
  keeper.get().catch(() => {});
};
