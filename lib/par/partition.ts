// The partition of LoRA-PAR (arXiv 2507.20999, section 3.2; METHOD.md 2): which LoRA elements matter
// for System 1, for System 2, for both or for neither, and which of them each phase trains.
// Importance comes from one backward per example, |S1 - S2/2| / N (kernels/importance.ts). The kept set
// of a system is the shortest prefix of its stable descending sort that holds a share theta of the
// total, exactly (kernels/select.ts). Nothing element-wise leaves the GPU here.

import { compactActive, compactKnown, type Indices } from "../../kernels/compact.ts";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import type { Tensor } from "../../kernels/gpu/tensor.ts";
import {
  accumulateImportance,
  finishImportance,
  importanceSums,
} from "../../kernels/importance.ts";
import {
  activateElements,
  type BySystem,
  cutSegments,
  markRegions,
  type Segments,
} from "../../kernels/regions.ts";
import {
  readCut,
  selectAll,
  selectByShare,
  type Selection,
  selectSharedByCount,
} from "../../kernels/select.ts";
import { type System, systems } from "../data/record.ts";
import { InvalidRequest, NumericError } from "../errors.ts";
import type { LoraLayout } from "../lora/layout.ts";

export type { BySystem };

/** What decides the regions from the importances. */
export interface CutSettings {
  /** Share of the importance that is kept, in (0, 1]. */
  theta: number;
  /** Share of the shared elements that phase 1 trains, then phase 2. */
  alpha: number;
  beta: number;
}

export interface RegionCounts {
  system1_only: number;
  system2_only: number;
  shared: number;
  inactive: number;
}

/** The numbers of a partition, as the API shows them. */
export interface PartitionReport extends CutSettings {
  elements: number;
  counts: RegionCounts;
  /** Counts over elements. */
  fractions: RegionCounts;
  /** Shared over the union of the kept sets. */
  jaccard: number;
  /** Elements that each phase trains. */
  active: { phase1: number; phase2: number };
  /** The smallest importance that is kept. */
  thresholds: BySystem<number>;
  by_tensor:
    ({ layer: number; module: string; matrix: "A" | "B"; elements: number } & RegionCounts)[];
}

export interface Partition {
  /** (E) f32 each. */
  importance: BySystem<Tensor>;
  /** (E) u8: 0 inactive, 1 System 1 only, 2 System 2 only, 3 shared. */
  regions: Tensor;
  /** (E) u8: bit 0 where phase 1 trains the element, bit 1 where phase 2 does. */
  active: Tensor;
  report: PartitionReport;
}

/**
 * Measures the importance of every element for both systems and cuts. `backward` computes the loss of
 * one example (mean over its answer tokens, dropout off) and adds its gradient to `g`, which is zero.
 * phi and g are (E) f32. @throws {InvalidRequest} when a system has no example or nothing matters.
 */
export async function partitionAdapter(
  gpu: Gpu,
  { layout, phi, g }: { layout: LoraLayout; phi: Tensor; g: Tensor },
  examples: BySystem<number>,
  backward: (system: System, example: number) => Promise<void> | void,
  settings: CutSettings,
): Promise<Partition> {
  for (const system of systems) {
    if (examples[system] > 0) continue;
    throw new InvalidRequest(
      `Cannot partition: there is no sample of ${names[system]}. Both systems need one or more; ` +
        "add labelled samples or classify the file first.",
    );
  }
  const importance: Partial<BySystem<Tensor>> = {};
  try {
    for (const system of systems) {
      const sums = gpu.scope(() => importanceSums(gpu, system, layout.elements));
      try {
        for (let example = 0; example < examples[system]; example++) {
          gpu.clear(g);
          await backward(system, example);
          accumulateImportance(gpu, { g, phi, sums });
        }
        const scores = importance[system] = gpu.tensor(`importance.${system}`, [layout.elements]);
        finishImportance(gpu, { sums, importance: scores }, examples[system]);
      } finally {
        gpu.release(sums.s1, sums.s2, sums.carry1, sums.carry2);
      }
    }
  } catch (error) {
    gpu.release(...Object.values(importance));
    throw error;
  }
  return await cutPartition(gpu, layout, importance as BySystem<Tensor>, settings);
}

/**
 * Regions and active elements from the importances, which the partition then owns (they are released
 * when it fails); the same bits for the same importances.
 * @throws {InvalidRequest} when a system's importance is zero everywhere.
 * @throws {NumericError} when one holds NaN or Inf.
 */
export async function cutPartition(
  gpu: Gpu,
  layout: LoraLayout,
  importance: BySystem<Tensor>,
  settings: CutSettings,
): Promise<Partition> {
  const { theta, alpha, beta } = settings;
  const { elements } = layout;
  let regions: Tensor | null = null;
  try {
    const kept = await keepByShare(gpu, layout, importance, theta);
    regions = kept.regions;
    const { thresholds, byTensor } = kept;
    const total = byTensor.reduce(add);
    const phase1 = Math.floor(alpha * total.shared);
    const phase2 = Math.floor(beta * total.shared);
    const active = activeInPhases(gpu, { importance, regions }, [phase1, phase2], total.shared);
    const share = (count: number) => count / elements;
    return {
      importance,
      regions,
      active,
      report: {
        theta,
        alpha,
        beta,
        elements,
        counts: total,
        fractions: {
          system1_only: share(total.system1_only),
          system2_only: share(total.system2_only),
          shared: share(total.shared),
          inactive: share(total.inactive),
        },
        jaccard: total.shared / (elements - total.inactive),
        active: { phase1: total.system1_only + phase1, phase2: total.system2_only + phase2 },
        thresholds,
        by_tensor: layout.tensors.map(({ layer, projection, matrix, rows, columns }, index) => ({
          layer,
          module: projection,
          matrix,
          elements: rows * columns,
          ...byTensor[index],
        })),
      },
    };
  } catch (error) {
    gpu.release(importance.system1, importance.system2, ...(regions ? [regions] : []));
    throw error;
  }
}

/** Regions (E) u8 from the kept sets, with the smallest importance kept and what each tensor holds. */
async function keepByShare(
  gpu: Gpu,
  layout: LoraLayout,
  importance: BySystem<Tensor>,
  theta: number,
): Promise<{ regions: Tensor; thresholds: BySystem<number>; byTensor: RegionCounts[] }> {
  const { states, segments, regions, counts } = gpu.scope(() => {
    const selection = {
      system1: selectByShare(gpu, importance.system1, theta),
      system2: selectByShare(gpu, importance.system2, theta),
    };
    const segments = layoutSegments(gpu, layout);
    const regions = gpu.tensor("partition.regions", [layout.elements], "u8");
    const counts = gpu.tensor("partition.counts", [segments.count, 4], "u32");
    markRegions(gpu, { importance, selection, segments, regions, counts });
    const states = [selection.system1.state, selection.system2.state];
    return { states, segments, regions, counts };
  });
  try {
    const [cut1, cut2, countWords] = await gpu.readWords([...states, counts])
      .finally(() => gpu.release(...states, counts, segments.table));
    return {
      regions,
      thresholds: { system1: thresholdOf("system1", cut1), system2: thresholdOf("system2", cut2) },
      byTensor: countByTensor(layout, segments, new Uint32Array(countWords)),
    };
  } catch (error) {
    gpu.release(regions);
    throw error;
  }
}

/** Active elements (E) u8, where phase 1 and phase 2 train the `counts` first of `shared` shared ones. */
function activeInPhases(
  gpu: Gpu,
  { importance, regions }: { importance: BySystem<Tensor>; regions: Tensor },
  [phase1, phase2]: [number, number],
  shared: number,
): Tensor {
  return gpu.scope(() => {
    const active = gpu.tensor("partition.active", regions.shape, "u8");
    if (phase1 === shared && phase2 === shared) {
      // Every shared element is active in both phases: the code is the mask.
      gpu.copy(regions, active);
      return active;
    }
    const top = (system: System, count: number): Selection =>
      count === shared
        ? selectAll(gpu)
        : selectSharedByCount(gpu, { importance: importance[system], regions }, count);
    const selection = { system1: top("system1", phase1), system2: top("system2", phase2) };
    activateElements(gpu, { importance, selection, regions, active });
    gpu.release(selection.system1.state, selection.system2.state);
    return active;
  });
}

/**
 * The elements that a phase trains, ascending: those whose byte in `active` (E) u8 has any of `bits`,
 * 1 for phase 1, 2 for phase 2. Their number is read back unless `count` is it.
 */
export async function activeElements(
  gpu: Gpu,
  layout: LoraLayout,
  active: Tensor,
  bits: number,
  count?: number,
): Promise<Indices> {
  const segments = layoutSegments(gpu, layout);
  try {
    const coded = { codes: active, segments };
    return count === undefined
      ? await compactActive(gpu, coded, bits)
      : compactKnown(gpu, coded, bits, count);
  } finally {
    gpu.release(segments.table);
  }
}

/** Releases a partition's buffers. */
export function releasePartition(gpu: Gpu, { importance, regions, active }: Partition): void {
  gpu.release(importance.system1, importance.system2, regions, active);
}

const names: BySystem<string> = { system1: "System 1", system2: "System 2" };

function layoutSegments(gpu: Gpu, layout: LoraLayout): Segments {
  return cutSegments(gpu, layout.tensors.map(({ rows, columns }) => rows * columns));
}

function thresholdOf(system: System, words: ArrayBuffer): number {
  const { status, threshold } = readCut(new Uint32Array(words));
  if (status === "not_finite") {
    throw new NumericError(
      `Cannot partition: the importance for ${
        names[system]
      } holds NaN or Inf. A sample's loss or a ` +
        "weight overflowed; leave out samples that are out of the ordinary, or check the model.",
    );
  }
  if (status === "zero_total") {
    throw new InvalidRequest(
      `Cannot partition: the importance for ${
        names[system]
      } is zero everywhere. That is so when the ` +
        'adapter starts with B = 0 (init "default"): use "gaussian" or "pissa".',
      "lora.init",
    );
  }
  return threshold;
}

/** Counts of the segments (segments, 4) summed to the layout's tensors. */
function countByTensor(
  layout: LoraLayout,
  { runOf }: Segments,
  counts: Uint32Array,
): RegionCounts[] {
  const sums = layout.tensors.map(() => ({
    system1_only: 0,
    system2_only: 0,
    shared: 0,
    inactive: 0,
  }));
  for (const [segment, tensor] of runOf.entries()) {
    const [inactive, system1_only, system2_only, shared] = counts.subarray(4 * segment);
    sums[tensor] = add(sums[tensor], { system1_only, system2_only, shared, inactive });
  }
  return sums;
}

function add(a: RegionCounts, b: RegionCounts): RegionCounts {
  return {
    system1_only: a.system1_only + b.system1_only,
    system2_only: a.system2_only + b.system2_only,
    shared: a.shared + b.shared,
    inactive: a.inactive + b.inactive,
  };
}
