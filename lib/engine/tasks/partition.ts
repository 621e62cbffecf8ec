// Partitions a fresh adapter of a model by labelled samples, and keeps importances and start on disk.

import type { Gpu } from "../../../kernels/gpu/gpu.ts";
import { readDataset } from "../../data/dataset.ts";
import { pack, shuffledOrder } from "../../data/pack.ts";
import { type RenderedSample, renderSamples } from "../../data/render.ts";
import type { Sample } from "../../data/record.ts";
import { InvalidRequest } from "../../errors.ts";
import { releaseAdapter, uploadAdapter } from "../../lora/adapter.ts";
import { hasZeroB, initAdapter } from "../../lora/init.ts";
import { type LoraLayout, loraLayout, loraScale } from "../../lora/layout.ts";
import { toFloat32 } from "../../model/floats.ts";
import { pass, type Policy, releaseBatch, uploadBatch } from "../../model/pass.ts";
import type { ModelSource } from "../../model/source.ts";
import {
  type Partition,
  partitionAdapter,
  releasePartition,
  type System,
  systems,
} from "../../par/partition.ts";
import { writePartition } from "../../par/partition_file.ts";
import type { LoraSettings, PartitionSettings } from "../../par/settings.ts";
import { deriveSeed } from "../../seeds.ts";
import { type GpuContext, modelUse, progressOf } from "../context.ts";
import type { PartitionTask } from "../messages.ts";

export function partition(
  context: GpuContext,
  task: PartitionTask,
): Promise<Record<string, unknown>> {
  return context.models.with(task.model.path, async ({ source, decoder }) => {
    const samples = await labelledSamples(task);
    const made = await makePartition(context, { source, decoder }, samples, task.request);
    try {
      return await storePartition(context.gpu, task.outputFolder, made, task.request, source);
    } finally {
      releasePartition(context.gpu, made.partition);
    }
  }, modelUse(context));
}

async function labelledSamples(task: PartitionTask): Promise<Sample[]> {
  if (task.file) return await readDataset(task.file.path, task.file.filename);
  const one = await readDataset(task.system1File!.path, task.system1File!.filename);
  const two = await readDataset(task.system2File!.path, task.system2File!.filename);
  return [
    ...one.map((sample) => ({ ...sample, system: "system1" as const })),
    ...two.map((sample) => ({ ...sample, system: "system2" as const })),
  ];
}

export interface MadePartition {
  layout: LoraLayout;
  partition: Partition;
  /** The adapter's start, (E) f32. */
  initial: Float32Array<ArrayBuffer>;
}

/** Starts an adapter and partitions it; the caller releases the partition. */
export async function makePartition(
  context: GpuContext,
  { source, decoder }: { source: ModelSource; decoder: Policy["decoder"] },
  samples: Sample[],
  settings: Omit<PartitionSettings, "model" | "file" | "system1_file" | "system2_file">,
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
  const examples = {
    system1: chooseExamples(samples, source, "system1", settings),
    system2: chooseExamples(samples, source, "system2", settings),
  };
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

/** A seeded choice of `samples_per_system` samples of one system, rendered. */
function chooseExamples(
  samples: Sample[],
  { config, tokenizer }: ModelSource,
  system: System,
  { samples_per_system, max_length, seed }: Pick<
    PartitionSettings,
    "samples_per_system" | "max_length" | "seed"
  >,
): RenderedSample[] {
  const own = samples.filter((sample) => sample.system === system);
  if (own.length === 0) {
    const other = systems.find((name) => name !== system)!;
    throw new InvalidRequest(
      `Cannot partition: no sample is labelled ${system} (${samples.length} samples, ` +
        `${samples.filter((sample) => sample.system === other).length} of them ${other}). Both ` +
        "systems need samples; classify the file first or add some.",
      "file",
      "one_sided_data",
    );
  }
  const order = shuffledOrder(own.length, deriveSeed(seed, "examples", systems.indexOf(system)));
  const chosen = [...order].slice(0, samples_per_system)
    .map((index) => own[index]);
  return renderSamples(chosen, tokenizer, {
    maxLength: max_length,
    positions: config.maxPositions,
  }).samples;
}

/** The adapter's starting values; PiSSA decomposes the base's weights, one after the other. */
export function startAdapter(
  context: GpuContext,
  source: ModelSource,
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
  source: ModelSource,
): Promise<Record<string, unknown>> {
  return writePartition(gpu, folder, made, { model, lora, base_digest: source.digest() });
}
