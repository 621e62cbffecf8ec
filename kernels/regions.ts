// Regions of the LoRA elements from the two systems' cuts, and the elements each phase trains
// (METHOD.md 2): 0 inactive, 1 System 1 only, 2 System 2 only, 3 shared, one byte an element.

import type { Gpu } from "./gpu/gpu.ts";
import type { Kernel } from "./gpu/pipelines.ts";
import { elementCount, type Tensor } from "./gpu/tensor.ts";
import code from "./regions.wgsl" with { type: "text" };
import type { Selection } from "./select.ts";
import { vec4View } from "./vec4_view.ts";

const workgroupSize = 32;
const kernel = (entryPoint: string): Kernel => ({
  label: `regions.${entryPoint}`,
  code,
  entryPoint,
  constants: { workgroup_size: workgroupSize },
});
const mark = kernel("mark");
const activate = kernel("activate");

/** Runs of elements that one lane walks, in order and without gaps. */
export interface Segments {
  /** (count, 2) u32: first element and the one after the last. */
  table: Tensor;
  count: number;
  /** For each segment, which of the runs it was cut from. */
  runOf: Uint32Array;
}

/** Elements of the longest segment; a GPU wants more and shorter ones. */
export function longestSegment({ facts }: Gpu): number {
  return facts.software ? 2048 : 256;
}

/**
 * Cuts runs of `lengths` elements into segments; none crosses the border between two runs.
 * The caller releases `table`.
 */
export function cutSegments(gpu: Gpu, lengths: readonly number[]): Segments {
  const longest = longestSegment(gpu);
  const bounds: number[] = [];
  const runs: number[] = [];
  let first = 0;
  for (const [run, length] of lengths.entries()) {
    for (let begin = 0; begin < length; begin += longest) {
      bounds.push(first + begin, first + Math.min(begin + longest, length));
      runs.push(run);
    }
    first += length;
  }
  return {
    table: gpu.upload("segments", new Uint32Array(bounds), [runs.length, 2]),
    count: runs.length,
    runOf: Uint32Array.from(runs),
  };
}

/** One tensor or cut for each system. */
export interface BySystem<T> {
  system1: T;
  system2: T;
}

/**
 * regions (E) u8 from importances (E) f32 and their cuts; counts (segments, 4) u32: elements of each
 * code in each segment.
 */
export function markRegions(
  gpu: Gpu,
  { importance, selection, segments, regions, counts }: {
    importance: BySystem<Tensor>;
    selection: BySystem<Selection>;
    segments: Segments;
    regions: Tensor;
    counts: Tensor;
  },
): void {
  const inputs = [
    vec4View(importance.system1),
    vec4View(importance.system2),
    selection.system1.state,
    selection.system2.state,
  ];
  gpu.run(
    mark,
    [...inputs, segments.table, regions, counts],
    gpu.grid(Math.ceil(segments.count / workgroupSize)),
    [segments.count, elementCount(regions.shape)],
  );
}

/**
 * active (E) u8: bit 0 where phase 1 trains the element, bit 1 where phase 2 does. `selection` is
 * each system's cut through the shared elements.
 */
export function activateElements(
  gpu: Gpu,
  { importance, selection, regions, active }: {
    importance: BySystem<Tensor>;
    selection: BySystem<Selection>;
    regions: Tensor;
    active: Tensor;
  },
): void {
  const words = Math.ceil(elementCount(regions.shape) / 4);
  const inputs = [
    vec4View(importance.system1),
    vec4View(importance.system2),
    selection.system1.state,
    selection.system2.state,
  ];
  gpu.run(activate, [...inputs, regions, active], gpu.grid(Math.ceil(words / workgroupSize)), [
    words,
  ]);
}
