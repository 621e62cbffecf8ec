// A partition on disk, two files in a folder. partition.safetensors holds, for each LoRA tensor,
// `<name>.importance.system1`, `.system2` and `<name>.initial` (f32) and `<name>.region` (u8), with PEFT's
// name without `base_model.model.`; partition.json holds the report. Importances are stored, so another
// theta needs no backward and gives the same bits as a fresh partition.

import type { Gpu } from "../../kernels/gpu/gpu.ts";
import { InvalidFile } from "../errors.ts";
import { layoutOfTensors, type LoraLayout } from "../lora/layout.ts";
import { openSafetensors, type TensorToWrite, writeSafetensors } from "../model/safetensors.ts";
import {
  type BySystem,
  cutPartition,
  type CutSettings,
  type Partition,
  type PartitionReport,
  releasePartition,
} from "./partition.ts";

const weightsName = "partition.safetensors";
const reportName = "partition.json";

/** Everything a partition's folder holds; vectors are (E) in the layout's order. */
export interface StoredPartition {
  layout: LoraLayout;
  importance: BySystem<Float32Array<ArrayBuffer>>;
  /** The adapter's starting values, which training starts from. */
  initial: Float32Array<ArrayBuffer>;
  regions: Uint8Array<ArrayBuffer>;
  report: PartitionReport & Record<string, unknown>;
}

/**
 * Reads the partition back from the GPU and writes its folder. `initial` (E) is the adapter's start;
 * `extra` comes before the report's own keys, e.g. `{ model, lora }`. Answers what partition.json holds.
 */
export async function writePartition(
  gpu: Gpu,
  folder: string,
  { layout, partition, initial }: {
    layout: LoraLayout;
    partition: Partition;
    initial: Float32Array;
  },
  extra: Record<string, unknown>,
): Promise<StoredPartition["report"]> {
  const { importance, regions } = partition;
  const [system1, system2, codes] = await gpu.readWords([
    importance.system1,
    importance.system2,
    regions,
  ]);
  const tensors = new Map<string, TensorToWrite>();
  for (const { name, offset, rows, columns } of layout.tensors) {
    const shape = [rows, columns];
    const size = rows * columns;
    const floats = (words: ArrayBuffer) => new Float32Array(words, 4 * offset, size);
    tensors.set(`${name}.importance.system1`, { dtype: "F32", shape, bytes: floats(system1) });
    tensors.set(`${name}.importance.system2`, { dtype: "F32", shape, bytes: floats(system2) });
    const start = initial.subarray(offset, offset + size);
    tensors.set(`${name}.initial`, { dtype: "F32", shape, bytes: start });
    tensors.set(`${name}.region`, {
      dtype: "U8",
      shape,
      bytes: new Uint8Array(codes, offset, size),
    });
  }
  await Deno.mkdir(folder, { recursive: true });
  await writeSafetensors(`${folder}/${weightsName}`, tensors);
  const report = { ...extra, ...partition.report };
  await Deno.writeTextFile(`${folder}/${reportName}`, JSON.stringify(report));
  return report;
}

/** Reads a partition's folder. @throws {InvalidFile} when a part of it is missing or damaged. */
export async function readPartition(folder: string): Promise<StoredPartition> {
  const report = await readReport(`${folder}/${reportName}`);
  const file = openSafetensors(`${folder}/${weightsName}`);
  try {
    const suffix = ".region";
    const shapes = new Map(
      [...file.tensors].filter(([name]) => name.endsWith(suffix))
        .map(([name, { shape }]) => [name.slice(0, -suffix.length), shape]),
    );
    const layout = layoutOfTensors(shapes, file.path);
    const stored: StoredPartition = {
      layout,
      importance: {
        system1: new Float32Array(layout.elements),
        system2: new Float32Array(layout.elements),
      },
      initial: new Float32Array(layout.elements),
      regions: new Uint8Array(layout.elements),
      report,
    };
    for (const { name, offset, rows, columns } of layout.tensors) {
      const require = (found: { length: number }, key: string) => {
        if (found.length === rows * columns) return;
        throw new InvalidFile(
          `Cannot read ${file.path}: ${name}.${key} has ${found.length} elements, ` +
            `wanted ${rows * columns}; make the partition again`,
        );
      };
      const floats = (key: string, to: Float32Array) => {
        const { data } = file.readFloat32(`${name}.${key}`);
        require(data, key);
        to.set(data, offset);
      };
      floats("importance.system1", stored.importance.system1);
      floats("importance.system2", stored.importance.system2);
      floats("initial", stored.initial);
      const { bytes } = file.read(`${name}${suffix}`);
      require(bytes, "region");
      stored.regions.set(bytes, offset);
    }
    return stored;
  } finally {
    file.close();
  }
}

/** The stored importances, back on the GPU and cut at other settings. */
export async function cutStored(
  gpu: Gpu,
  { layout, importance }: StoredPartition,
  settings: CutSettings,
): Promise<Partition> {
  const uploaded = gpu.scope(() => ({
    system1: gpu.upload("importance.system1", importance.system1),
    system2: gpu.upload("importance.system2", importance.system2),
  }));
  return await cutPartition(gpu, layout, uploaded, settings);
}

/**
 * Writes a new partition into `outputFolder` from the importance stored in `folder`.
 * Answers what its partition.json holds. @throws {InvalidFile} when `folder` is damaged.
 */
export async function rethreshold(
  gpu: Gpu,
  folder: string,
  settings: CutSettings,
  outputFolder: string,
): Promise<StoredPartition["report"]> {
  const stored = await readPartition(folder);
  const partition = await cutStored(gpu, stored, settings);
  try {
    const { layout, initial, report } = stored;
    return await writePartition(gpu, outputFolder, { layout, partition, initial }, report);
  } finally {
    releasePartition(gpu, partition);
  }
}

async function readReport(path: string): Promise<StoredPartition["report"]> {
  const fail = (found: string) =>
    new InvalidFile(`Cannot read ${path}: ${found}; make the partition again`);
  let report: unknown;
  try {
    report = JSON.parse(await Deno.readTextFile(path));
  } catch (error) {
    throw fail((error as Error).message);
  }
  const { theta, alpha, beta } = (report ?? {}) as Partial<PartitionReport>;
  if (![theta, alpha, beta].every((value) => typeof value === "number")) {
    throw fail("theta, alpha or beta is not a number");
  }
  return report as StoredPartition["report"];
}
