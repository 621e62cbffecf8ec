// Keeps the most important elements, exactly: the shortest prefix of the stable descending sort
// (ties: lower index first) whose exact sum is at least theta * total, or whose length is `count`.
// No sort: three histograms over the float's bits (10, 11, 10) narrow the cut down to one value, with
// the sums of bins as integers (the mantissas of a bin share an exponent), then to an index among the
// elements equal to it. Nothing is read back: the cut stays on the GPU, 8 words a selection.
// Left out: more elements than one binding holds (33 million on lavapipe).

import { GpuError } from "../lib/errors.ts";
import type { Gpu } from "./gpu/gpu.ts";
import type { Kernel } from "./gpu/pipelines.ts";
import { elementCount, type Tensor } from "./gpu/tensor.ts";
import { variantOf } from "./gpu/variants.ts";
import histogramCode from "./select_histogram.wgsl" with { type: "text" };
import searchCode from "./select_search.wgsl" with { type: "text" };
import { vec4View } from "./vec4_view.ts";

/** A cut through importances: an element is kept above the threshold, or at it up to an index. */
export interface Selection {
  /** (8) u32, as select_search.wgsl says. */
  state: Tensor;
}

/** A selection read back. */
export interface Cut {
  status: "ok" | "not_finite" | "zero_total" | "too_few";
  /** The smallest kept importance; Infinity when none is kept. */
  threshold: number;
  /** Of those equal to the threshold, the last index that is kept. */
  lastIndex: number;
}

const levels = [
  { bins: 1024, bin_shift: 21, prefix_shift: 32, search: "search_first" },
  { bins: 2048, bin_shift: 10, prefix_shift: 21, search: "search_second" },
  { bins: 1024, bin_shift: 0, prefix_shift: 10, search: "search_third" },
];
const slots = 256;
const partialWords = slots * 2 * Math.max(...levels.map(({ bins }) => bins));

interface Kernels {
  levels: { histogram: Kernel; reduce: Kernel; search: Kernel; bins: number }[];
  findTie: Kernel;
}

const kernels = new Map<string, Kernels>();

function kernelsFor(isPrivate: boolean, byCount: boolean): Kernels {
  const key = `${isPrivate} ${byCount}`;
  const known = kernels.get(key);
  if (known) return known;
  const kernel = (entryPoint: string, code: string, constants: Record<string, number> = {}) => ({
    label: `select.${entryPoint}`,
    code,
    entryPoint,
    constants,
  });
  const only_shared = byCount ? 1 : 0;
  const made: Kernels = {
    levels: levels.map(({ search, ...level }, index) => ({
      bins: level.bins,
      histogram: kernel(isPrivate ? "private_histogram" : "shared_histogram", histogramCode, {
        ...level,
        workgroup_size: isPrivate ? 32 : 256,
        // In the last level all elements of a bin are equal, so counts do.
        by_count: byCount || index === 2 ? 1 : 0,
        only_shared,
      }),
      reduce: kernel("reduce", histogramCode, { bins: level.bins, workgroup_size: 32 }),
      search: kernel(search, searchCode, { by_count: byCount ? 1 : 0 }),
    })),
    findTie: kernel("find_tie", histogramCode, { only_shared }),
  };
  kernels.set(key, made);
  return made;
}

/** What decides the cut, as parameters of select_search.wgsl. */
interface Wanted {
  count: number;
  theta: { low: number; high: number; shift: number };
}

/** theta = (high * 2^32 + low) * 2^-shift, exactly. */
function exactTheta(theta: number): Wanted["theta"] {
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, theta);
  const top = view.getUint32(0);
  const exponent = top >>> 20;
  const hidden = exponent > 0 ? 2 ** 20 : 0;
  return {
    low: view.getUint32(4),
    high: (top & 0xfffff) + hidden,
    shift: 1075 - Math.max(exponent, 1),
  };
}

/**
 * The shortest prefix whose sum is at least theta * total. importance (E) f32, not negative; theta in
 * (0, 1]. Elements of zero importance are never needed.
 */
export function selectByShare(gpu: Gpu, importance: Tensor, theta: number): Selection {
  if (!(theta > 0 && theta <= 1)) {
    throw new RangeError(`Cannot select by the share ${theta}: wanted over 0, at most 1`);
  }
  return select(gpu, importance, null, { count: 0, theta: exactTheta(theta) });
}

/**
 * The `count` most important elements among those whose region is 3 (shared). importance (E) f32,
 * regions (E) u8; both parts of the cut count only within them.
 */
export function selectSharedByCount(
  gpu: Gpu,
  { importance, regions }: { importance: Tensor; regions: Tensor },
  count: number,
): Selection {
  return select(gpu, importance, regions, { count, theta: exactTheta(1) });
}

/** A cut that keeps every element. */
export function selectAll(gpu: Gpu): Selection {
  return { state: gpu.upload("selection", new Uint32Array([0, 0, 0, 0, 0, 0xffffffff, 0, 0])) };
}

/** Whose histograms: each lane's own in storage, for a CPU posing as a GPU, or each workgroup's. */
export function selectVariants({ facts }: Gpu): readonly ("private" | "shared")[] {
  return facts.software ? ["private", "shared"] : ["shared", "private"];
}

function select(
  gpu: Gpu,
  importance: Tensor,
  regions: Tensor | null,
  { count, theta }: Wanted,
): Selection {
  const elements = elementCount(importance.shape);
  if (importance.sizeBytes > gpu.facts.limits.maxBindingBytes) {
    throw new GpuError(
      `Cannot select among ${elements} LoRA elements: ${gpu.facts.description} binds ` +
        `${gpu.facts.limits.maxBindingBytes} bytes at once. Use a smaller r or fewer target_modules.`,
    );
  }
  const isPrivate = variantOf(gpu, "select", selectVariants(gpu)) === "private";
  const { levels, findTie } = kernelsFor(isPrivate, regions !== null);
  const view = vec4View(importance);
  const codes = regions ?? importance;
  const chunkWords = Math.ceil(Math.ceil(elements / 4) / slots);
  const params = [elements, slots, chunkWords];
  const searchParams = [count, theta.low, theta.high, theta.shift];
  const state = gpu.zeros("selection", [8], "u32");
  const partials = gpu.tensor("selection.partials", [partialWords], "u32");
  for (const { histogram, reduce, search, bins } of levels) {
    const totals = gpu.tensor("selection.totals", [2, bins], "u32");
    const used = { ...partials, shape: [slots, 2, bins], sizeBytes: slots * 2 * bins * 4 };
    if (isPrivate) gpu.clear(used);
    gpu.run(histogram, [view, codes, state, used], [isPrivate ? slots / 32 : slots], params);
    gpu.run(reduce, [used, totals], [bins / 4 / 32], params);
    if (search.entryPoint === "search_first") {
      gpu.run(search, [totals, state], [1], searchParams);
    } else if (search.entryPoint === "search_second") {
      gpu.run(search, [totals, state], [1]);
    } else {
      gpu.run(search, [totals, state, used], [1], [slots]);
    }
    gpu.release(totals);
  }
  gpu.run(findTie, [view, codes, state], [1], params);
  gpu.release(partials);
  return { state };
}

/** Decodes a selection's state (8) u32. */
export function readCut(state: Uint32Array): Cut {
  const status = (["ok", "not_finite", "zero_total", "too_few"] as const)[state[0]];
  const threshold = new Float32Array(state.slice(4, 5).buffer)[0];
  return { status, threshold, lastIndex: state[5] };
}
