// What a task acquires on the GPU is released however the task ends: every kind of task is run once to
// count its allocations, its waits for the GPU and its looks for a cancellation, then again and again with
// one of them failing. Each time the pool holds as many bytes afterwards as before.

import { assert, assertStrictEquals } from "@std/assert";
import { openGpu } from "../../../kernels/gpu/gpu.ts";
import type { TaskContext } from "../../../lib/engine/context.ts";
import type { GpuTask, ModelReference } from "../../../lib/engine/messages.ts";
import { gpuModelLoader, ModelCache } from "../../../lib/engine/model_cache.ts";
import { runTask } from "../../../lib/engine/tasks.ts";
import { TextPool } from "../../../lib/engine/text/pool.ts";
import { createTurns } from "../../../lib/engine/turns.ts";
import { Cancelled, GpuError } from "../../../lib/errors.ts";
import { classifySettings, partitionSettings } from "../../../lib/par/settings.ts";
import { evaluateSettings, trainSettings } from "../../../lib/train/settings.ts";
import { tinyConfig, writeHfFolder } from "../model/tiny_model.ts";

/** Failures of a task that are tried, spread over all there are of a kind. */
const triesOfAKind = 12;

type Fault = "acquire" | "wait" | "check";

/** A GPU that counts what may fail, and fails the one that is asked for. */
async function breakableGpu() {
  const gpu = await openGpu();
  const counts: Record<Fault, number> = { acquire: 0, wait: 0, check: 0 };
  let failing: { fault: Fault; number: number } | null = null;
  const hit = (fault: Fault) => {
    const at = counts[fault]++;
    if (failing?.fault !== fault) return;
    // What is cancelled stays so; what fails does once.
    if (fault === "check" && at >= failing.number) throw new Cancelled("Cancelled by request.");
    if (fault !== "check" && at === failing.number) throw new GpuError(`The ${fault} failed.`);
  };
  const { pool } = gpu;
  const acquire = pool.acquire.bind(pool);
  pool.acquire = (label, sizeBytes) => (hit("acquire"), acquire(label, sizeBytes));
  const texture = gpu.texture.bind(gpu);
  gpu.texture = (label, height, width) => (hit("acquire"), texture(label, height, width));
  const sync = gpu.sync.bind(gpu);
  gpu.sync = async () => {
    await sync();
    hit("wait");
  };
  const readWords = gpu.readWords.bind(gpu);
  gpu.readWords = async (tensors) => {
    const words = await readWords(tensors);
    hit("wait");
    return words;
  };
  return {
    gpu,
    counts,
    check: () => hit("check"),
    async run(work: () => Promise<unknown>, fault: Fault | null = null, number = 0) {
      counts.acquire = counts.wait = counts.check = 0;
      failing = fault && { fault, number };
      try {
        await work();
      } finally {
        failing = null;
      }
      return { ...counts };
    },
  };
}

const lora = { r: 4, target_modules: ["q_proj", "down_proj"] };
const sample = (system: string, i: number) => ({ question: `${i}+1`, answer: `${i + 1}`, system });
const samples = [sample("system1", 1), sample("system2", 2), sample("system1", 3)];
const sft = { kind: "sft", data: "all", activate: "all", max_steps: 2, lora_dropout: 0.1 };
const grpo = {
  kind: "grpo",
  data: "all",
  activate: "all",
  max_steps: 3,
  num_generations: 2,
  per_device_train_batch_size: 4,
  max_completion_length: 4,
  num_iterations: 2,
  beta: 0.1,
  rewards: [{ type: "math_answer" }, { type: "length", target: 3 }],
};

Deno.test("a task that fails or is cancelled anywhere leaves nothing on the GPU", async (t) => {
  const folder = await Deno.makeTempDir();
  const path = `${folder}/model`;
  await writeHfFolder(path, { ...tinyConfig, maxPositions: 1024 });
  const model: ModelReference = { id: "tiny", baseId: "tiny", path, adapterFolder: null };
  await Deno.writeTextFile(
    `${folder}/data.jsonl`,
    samples.map((one) => JSON.stringify(one) + "\n").join(""),
  );
  const file = { id: "file-1", path: `${folder}/data.jsonl`, filename: "data.jsonl" };
  // Teachers are asked thrice, since this model says nothing that can be read.
  const one = { id: "file-2", path: `${folder}/one.jsonl`, filename: "one.jsonl" };
  await Deno.writeTextFile(one.path, JSON.stringify(samples[0]) + "\n");
  const outputFolder = `${folder}/out`;
  const none = { localTeachers: new Map(), apiKeys: new Map(), allowedHosts: [] };
  const adapterBase = { name: null, folderMayBeTold: false };
  const train = (more: Record<string, unknown>): GpuTask => ({
    kind: "train",
    request: trainSettings.parse({ model: "tiny", file: "file-1", ...more }),
    model,
    file,
    validationFile: more.validation_file ? file : null,
    evaluateFile: more.evaluate ? file : null,
    partition: null,
    ...none,
    adapterBase,
    dryRun: false,
    outputFolder,
  });
  const teachers = [{ name: "teacher", model: "tiny" }];
  const partition = { lora, samples_per_system: 2, max_length: 64 };
  const tasks: Record<string, GpuTask> = {
    sft: train({ phases: [sft], partition: null, lora, validation_file: "file-1" }),
    grpo: train({ phases: [grpo], partition: null, lora }),
    "train by its own partition": train({
      phases: [{ ...sft, activate: "system1" }],
      partition: { ...partition, theta: 0.5, alpha: 0.5 },
      evaluate: { file: "file-1", grader: { type: "math_answer" }, max_tokens: 4 },
    }),
    "train by a partition": {
      ...train({ phases: [{ ...sft, activate: "system2" }], partition: "part-1" }),
      partition: { id: "part-1", folder: `${folder}/part` },
    } as GpuTask,
    "train further": {
      ...train({ phases: [sft], partition: null }),
      model: { ...model, adapterFolder: `${folder}/adapter` },
    } as GpuTask,
    partition: {
      kind: "partition",
      request: partitionSettings.parse({ model: "tiny", file: "file-1", ...partition }),
      model,
      file,
      system1File: null,
      system2File: null,
      outputFolder,
    },
    rethreshold: {
      kind: "rethreshold",
      request: { theta: 0.3, alpha: 0.5, beta: 1 },
      source: { id: "part-1", folder: `${folder}/part` },
      outputFolder,
    },
    classify: {
      kind: "classify",
      request: classifySettings.parse({ file: "file-2", target_model: "tiny", teachers }),
      file: one,
      ...none,
      localTeachers: new Map(teachers.map(({ name }) => [name, model])),
      outputFolder,
    },
    evaluate: {
      kind: "evaluate",
      request: evaluateSettings.parse({
        model: "tiny",
        file: "file-1",
        grader: { type: "math_answer" },
        max_tokens: 4,
      }),
      model: { ...model, adapterFolder: `${folder}/adapter` },
      file,
      outputFolder,
    },
    chat: {
      kind: "chat",
      model: { ...model, adapterFolder: `${folder}/adapter` },
      messages: [{ role: "user", content: "Hi" }],
      maxTokens: 8,
      temperature: 1,
      topP: 0.9,
      topK: 5,
      minP: 0,
      seed: 1,
      stop: [],
      n: 3,
    },
  };

  const broken = await breakableGpu();
  const { gpu } = broken;
  const turns = createTurns();
  const models = new ModelCache(gpuModelLoader(gpu), 2 ** 30, 0);
  const pool = new TextPool();
  const context: TaskContext = {
    turns,
    texts: pool.forTask(),
    device: () => Promise.resolve({ ...context, gpu, models }),
    emit() {},
    checkCancelled: broken.check,
  };
  const run = async (task: GpuTask) => {
    await Deno.remove(outputFolder, { recursive: true }).catch(() => {});
    await Deno.mkdir(outputFolder);
    await runTask(context, task);
  };
  const used = () => gpu.pool.memory.usedBytes;

  // What later tasks start from.
  await run(tasks.partition);
  await Deno.rename(outputFolder, `${folder}/part`);
  await run(tasks.sft);
  await Deno.rename(`${outputFolder}/adapter`, `${folder}/adapter`);

  const failEverywhere = async (work: () => Promise<unknown>) => {
    const counts = await broken.run(work);
    for (const [fault, count] of Object.entries(counts) as [Fault, number][]) {
      const step = Math.max(1, count / triesOfAKind);
      for (let number = 0; number < count; number += step) {
        const wanted = used();
        const at = Math.floor(number);
        const outcome = await broken.run(work, fault, at).catch((error: unknown) => error);
        const isTold = outcome instanceof GpuError || outcome instanceof Cancelled;
        // Some look for a cancellation by the clock, and so less often in one run than in another.
        const isPast = fault === "check" && broken.counts.check <= at;
        assert(isTold || isPast, `${fault} ${at} of ${count}: ${outcome}`);
        assertStrictEquals(used(), wanted, `bytes in use after ${fault} ${at} of ${count} failed`);
      }
    }
    return counts;
  };
  for (const [name, task] of Object.entries(tasks)) {
    await t.step(name, async () => {
      await run(task);
      const counts = await failEverywhere(() => run(task));
      assert(counts.acquire > 0 && counts.wait > 0, JSON.stringify(counts));
    });
  }
  await t.step("loading a model", async () => {
    const loader = gpuModelLoader(gpu);
    const source = await loader.open(path);
    await failEverywhere(async () => await loader.free(await loader.load(source)));
    source.close();
  });
  pool.close();
  gpu.close();
  await Deno.remove(folder, { recursive: true });
});
