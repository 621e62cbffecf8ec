// Where a training starts: the adapter's elements and values, and which of them each phase may move.
// From a partition (given or made here), from a trained adapter, or from scratch without a partition.

import type { Indices } from "../../../kernels/compact.ts";
import type { Gpu } from "../../../kernels/gpu/gpu.ts";
import type { Tensor } from "../../../kernels/gpu/tensor.ts";
import { InvalidRequest } from "../../errors.ts";
import { type AdapterFile, readTrainableAdapter, requireBase } from "../../lora/adapter_file.ts";
import { type LoraLayout, loraLayout, loraScale } from "../../lora/layout.ts";
import type { Policy } from "../../model/pass.ts";
import type { ModelWeights } from "../../model/source.ts";
import { activeElements } from "../../par/partition.ts";
import { cutStored, readPartition } from "../../par/partition_file.ts";
import { type LoraSettings, loraSettings } from "../../par/settings.ts";
import { allElements } from "../../train/optimizer.ts";
import type { PhaseSettings } from "../../train/settings.ts";
import type { GpuContext } from "../context.ts";
import type { TrainTask } from "../messages.ts";
import { makePartition, renderExamples, startAdapter, storePartition } from "./partition.ts";

export interface StartingPoint extends AdapterFile {
  /** (E) u8: bit 0 for phase 1, bit 1 for phase 2; null trains every element. */
  active: Tensor | null;
  /** This job made the partition and wrote it into outputFolder/partition. */
  madePartition: boolean;
}

/** Decides where the task starts; the caller releases `active`. */
export async function startingPoint(
  context: GpuContext,
  task: TrainTask,
  model: { source: ModelWeights; decoder: Policy["decoder"] },
): Promise<StartingPoint> {
  const { config } = model.decoder;
  const continued = task.model.adapterFolder
    ? readTrainableAdapter(task.model.adapterFolder, model.source)
    : null;
  const given = await givenPartition(context, task, model.source, continued);
  if (continued) return { ...continued, active: given?.active ?? null, madePartition: false };
  if (given) return { ...given, madePartition: false };
  const { partition } = task.request;
  if (partition && typeof partition === "object") {
    const examples = await renderExamples(context, task.model, partition);
    const made = await makePartition(context, model, examples, partition);
    const folder = `${task.outputFolder}/partition`;
    const settings = { ...partition, model: task.model.baseId };
    const { importance, regions, active } = made.partition;
    try {
      await storePartition(context.gpu, folder, made, settings, model.source);
    } catch (error) {
      context.gpu.release(active);
      throw error;
    } finally {
      context.gpu.release(importance.system1, importance.system2, regions);
    }
    return {
      ...fresh(partition.lora, made.layout, made.initial),
      active,
      madePartition: true,
    };
  }
  const lora = task.request.lora ?? loraSettings.parse({});
  const layout = loraLayout(config, lora);
  const phi = await startAdapter(context, model.source, layout, lora);
  return { ...fresh(lora, layout, phi), active: null, madePartition: false };
}

function fresh(
  lora: LoraSettings,
  layout: LoraLayout,
  phi: Float32Array<ArrayBuffer>,
): AdapterFile {
  const residual = lora.init === "pissa" ? phi.slice() : null;
  return { settings: lora, layout, phi, residual, scale: loraScale(lora) };
}

/** A stored partition: its start, and its active elements on the GPU; `continued` must have its layout. */
async function givenPartition(
  { gpu, turns }: GpuContext,
  task: TrainTask,
  source: ModelWeights,
  continued: AdapterFile | null,
): Promise<AdapterFile & { active: Tensor } | null> {
  const { partition } = task;
  if (!partition) return null;
  const stored = await readPartition(partition.folder);
  requireBase(stored.report.base_digest, source, "partition", "partition");
  if (continued) requireSameLayout(continued.layout, stored.layout, task);
  const lora = loraSettings.parse(stored.report.lora);
  const start = fresh(lora, loraLayout(source.config, lora), stored.initial);
  const cut = await turns.take(() => cutStored(gpu, stored, stored.report));
  const { active, importance, regions } = cut;
  gpu.release(importance.system1, importance.system2, regions);
  return { ...start, active };
}

function requireSameLayout(adapter: LoraLayout, partition: LoraLayout, task: TrainTask): void {
  const same = adapter.elements === partition.elements &&
    adapter.tensors.every(({ name, rows, columns }, i) => {
      const other = partition.tensors[i];
      return other.name === name && other.rows === rows && other.columns === columns;
    });
  if (same) return;
  throw new InvalidRequest(
    `Cannot train ${task.model.id} by ${task.partition?.id}: the adapter has ${adapter.elements} ` +
      `elements, the partition ${partition.elements}, or other modules. Give the partition it was ` +
      "trained by.",
    "partition",
  );
}

/** Bits of `active` that a phase moves: 1 for System 1, 2 for System 2, either for "all". */
export function activeBits({ activate }: Pick<PhaseSettings, "activate">): number {
  return activate === "system1" ? 1 : activate === "system2" ? 2 : 3;
}

/** @throws {InvalidRequest} when the partition leaves a phase no element to move. */
export async function requireElements(
  gpu: Gpu,
  { active }: StartingPoint,
  phases: PhaseSettings[],
): Promise<void> {
  if (!active) return;
  const [words] = await gpu.readWords([active]);
  const found = new Uint8Array(words).reduce((bits, one) => bits | one, 0);
  for (const [index, settings] of phases.entries()) {
    if (found & activeBits(settings)) continue;
    throw new InvalidRequest(
      `Cannot train phase ${index + 1} (${settings.kind}) on ${settings.activate}: the partition ` +
        "leaves it no element. Lower theta, or raise alpha or beta.",
      `phases[${index}].activate`,
    );
  }
}

/** The elements a phase moves. */
export async function phaseElements(
  gpu: Gpu,
  { layout, active }: StartingPoint,
  settings: PhaseSettings,
): Promise<Indices> {
  return active
    ? await activeElements(gpu, layout, active, activeBits(settings))
    : allElements(gpu, layout.elements);
}
