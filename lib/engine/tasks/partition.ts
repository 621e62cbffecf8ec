// Partitions a fresh adapter of a model by labelled samples, and keeps importances and start on disk.

import type { Gpu } from "../../../kernels/gpu/gpu.ts";
import { pack } from "../../data/pack.ts";
import type { RenderedSample } from "../../data/render.ts";
import { InvalidRequest } from "../../errors.ts";
import { releaseAdapter, uploadAdapter } from "../../lora/adapter.ts";
import { hasZeroB, initAdapter } from "../../lora/init.ts";
import { type LoraLayout, loraLayout, loraScale } from "../../lora/layout.ts";
import { toFloat32 } from "../../model/floats.ts";
import { pass, type Policy, releaseBatch, uploadBatch } from "../../model/pass.ts";
import type { ModelWeights } from "../../model/source.ts";
import {
  type BySystem,
  type Partition,
  partitionAdapter,
  releasePartition,
} from "../../par/partition.ts";
import { writePartition } from "../../par/partition_file.ts";
import type { LoraSettings, PartitionSettings } from "../../par/settings.ts";
import { type GpuContext, modelUse, progressOf, type TaskContext } from "../context.ts";
import type { ModelReference, PartitionTask } from "../messages.ts";
import type { LabelledFile } from "../text/messages.ts";
import { collectRows } from "../text/rows.ts";
import { requireTrainingKernels } from "../training_kernels.ts";

export async function partition(
  context: TaskContext,
  task: PartitionTask,
): Promise<Record<string, unknown>> {
  const { model, request, outputFolder } = task;
  await context.texts.call("read_samples", { set: "train", files: labelledFiles(task) });
  const examples = await renderExamples(context, model, request);
  const onGpu = await context.device();
  await requireTrainingKernels(onGpu);
  const { gpu, models } = onGpu;
  return await models.with(model.path, async ({ source, decoder }) => {
    const made = await makePartition(onGpu, { source, decoder }, examples, request);
    try {
      return await storePartition(gpu, outputFolder, made, request, source);
    } finally {
      releasePartition(gpu, made.partition);
    }
  }, modelUse(onGpu));
}

/** The files of a task's labelled samples: one with labels, or one of each system. */
function labelledFiles({ file, system1File, system2File }: PartitionTask): LabelledFile[] {
  if (file) return [{ file, system: null, param: "file" }];
  return [
    { file: system1File!, system: "system1", param: "system1_file" },
    { file: system2File!, system: "system2", param: "system2_file" },
  ];
}

export interface MadePartition {
  layout: LoraLayout;
  partition: Partition;
  /** The adapter's start, (E) f32. */
  initial: Float32Array<ArrayBuffer>;
}

/** Samples of each system that importance is measured on. */
export type PartitionExamples = BySystem<RenderedSample[]>;

/** Chooses them of the samples that the task has read. @throws {InvalidRequest} when a system has none. */
export async function renderExamples(
  { texts }: TaskContext,
  { id, path }: ModelReference,
  { samples_per_system, max_length, seed }: MadeSettings,
): Promise<PartitionExamples> {
  const { parts: [system1, system2], onRows } = collectRows(2);
  const settings = { samples_per_system, max_length, seed };
  await texts.call("render_systems", { model: { id, path }, settings }, { onRows });
  return { system1, system2 };
}

type MadeSettings = Omit<PartitionSettings, "model" | "file" | "system1_file" | "system2_file">;

/** Starts an adapter and partitions it; the caller releases the partition. */
export async function makePartition(
  context: GpuContext,
  { source, decoder }: { source: ModelWeights; decoder: Policy["decoder"] },
  examples: PartitionExamples,
  settings: MadeSettings,
): Promise<MadePartition> {
  const { gpu, turns } = context;
  const layout = loraLayout(decoder.config, settings.lora);
  const initial = await startAdapter(context, source, layout, settings.lora);
  if (hasZeroB(layout, initial)) {
    throw new InvalidRequest(
      'Cannot partition an adapter whose B is zero: every importance would be zero. Use init "gaussian" ' +
        'or "pissa".',
      "lora.init",
      "zero_b",
    );
  }
  const adapter = uploadAdapter(gpu, layout, initial, {
    scale: loraScale(settings.lora),
    trainable: true,
    residual: settings.lora.init === "pissa" ? initial : undefined,
  });
  const onProgress = progressOf(context, "importance", "samples");
  const total = examples.system1.length + examples.system2.length;
  let done = 0;
  try {
    const partition = await partitionAdapter(
      gpu,
      { layout, phi: adapter.phi, g: adapter.grad! },
      { system1: examples.system1.length, system2: examples.system2.length },
      async (system, index) => {
        context.checkCancelled();
        await turns.take(() =>
          meanLossBackward(gpu, { decoder, adapter }, examples[system][index])
        );
        onProgress(++done, total);
      },
      settings,
    );
    return { layout, partition, initial };
  } finally {
    releaseAdapter(gpu, adapter);
  }
}

/** Adds the gradient of the mean loss over one sample's answer tokens; dropout is off. */
async function meanLossBackward(gpu: Gpu, policy: Policy, sample: RenderedSample): Promise<void> {
  gpu.scope(() => {
    const batch = uploadBatch(gpu, policy.decoder, pack([sample]));
    const values = gpu.tensor("importance.values", [batch.M, 4]);
    const dlogp = gpu.upload("importance.dlogp", new Float32Array(batch.M).fill(-1 / batch.M));
    pass(gpu, policy, { batch, values }, { objective: { dlogp } });
    gpu.release(values, dlogp);
    releaseBatch(gpu, batch);
  });
  await gpu.sync();
}

/** The adapter's starting values; PiSSA decomposes the base's weights, one after the other. */
export function startAdapter(
  context: GpuContext,
  source: ModelWeights,
  layout: LoraLayout,
  lora: LoraSettings,
): Promise<Float32Array<ArrayBuffer>> {
  return initAdapter(layout, lora, lora.seed, {
    readWeight: async (name) => toFloat32(await source.read(name)),
    onMatrix: progressOf(context, "pissa", "matrices"),
  });
}

/** Writes a partition's folder; answers the report. */
export function storePartition(
  gpu: Gpu,
  folder: string,
  made: MadePartition,
  { model, lora }: { model?: string; lora: LoraSettings },
  source: ModelWeights,
): Promise<Record<string, unknown>> {
  return writePartition(gpu, folder, made, { model, lora, base_digest: source.digest() });
}
