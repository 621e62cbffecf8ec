// Attention of one new token a row over its cached keys and values (the KV cache), three passes as in
// attention.ts. Rows have their own lengths, which live on the GPU: a decode step needs nothing from
// the CPU but an upper bound of them, for the number of workgroups.

import { f32Word, type Gpu } from "./gpu/gpu.ts";
import type { Kernel } from "./gpu/pipelines.ts";
import { elementCount, type Tensor } from "./gpu/tensor.ts";
import { variantOf } from "./gpu/variants.ts";
import code from "./attention_decode.wgsl" with { type: "text" };
import type { SegmentTensors } from "./attention.ts";
import index from "./index.wgsl" with { type: "text" };
import rowReduce from "./row_reduce.wgsl" with { type: "text" };

const workgroupSize = 64;
const positionsAGroup = 64;
const tilesAGroup = 4;

const kernel = (entryPoint: string, constants: Record<string, number>): Kernel => ({
  label: `attention_decode.${entryPoint}`,
  code: index + rowReduce + code,
  entryPoint,
  constants,
});
const sized = { workgroup_size: workgroupSize };
const write = kernel("write", sized);
const append = kernel("append", sized);
const advanceKernel = kernel("advance", sized);
const tiled = (entryPoint: string, constants: Record<string, number> = {}) =>
  [1, 2, 3, 4].map((heads) => kernel(entryPoint, { ...constants, heads_a_tile: heads }));
const scores = tiled("scores");

const sums = {
  rows: {
    lanesARow: 1,
    softmax: kernel("softmax", sized),
    splits: 1,
    sumValues: tiled("sum_values", sized),
  },
  trees: {
    lanesARow: 32,
    softmax: kernel("softmax", { ...sized, lanes_a_row: 32 }),
    splits: 8,
    sumValues: tiled("sum_values", { ...sized, splits: 8 }),
  },
};

/** The op for so many query heads to one of keys: each tile of 1 to 4 heads has kernels of its own. */
export function attentionDecodeOp(group: number): string {
  return `attention_decode in tiles of ${tileHeads(group)} heads`;
}

function tileHeads(group: number): number {
  return Math.ceil(group / Math.ceil(group / 4));
}

/** How rows are summed: by a lane each, which a CPU posing as a GPU prefers, or by trees of lanes. */
export function attentionDecodeVariants({ facts }: Gpu): readonly (keyof typeof sums)[] {
  return facts.software ? ["rows", "trees"] : ["trees", "rows"];
}

/** Keys and values of B rows, room for `capacity` positions each. */
export interface KvCache {
  /** (B, KVH, capacity, D) f32 each. */
  layers: { k: Tensor; v: Tensor }[];
  /** (B) u32, positions that are filled; the caller writes it after the prompts. */
  lengths: Tensor;
  /** (B, H, capacity) f32, shared by the layers. */
  scores: Tensor;
  B: number;
  H: number;
  KVH: number;
  D: number;
  /** A multiple of 4. */
  capacity: number;
}

export interface KvCacheSizes {
  layers: number;
  B: number;
  H: number;
  KVH: number;
  D: number;
  /** Positions a row may come to, prompt and completion. */
  capacity: number;
}

const whole = (capacity: number) => Math.ceil(capacity / 4) * 4;

/** Bytes a cache of these sizes takes, and the largest of its buffers. */
export function kvCacheBytes(
  { layers, B, H, KVH, D, capacity }: KvCacheSizes,
): { totalBytes: number; largestBytes: number } {
  const layer = B * KVH * whole(capacity) * D * 4;
  const scores = B * H * whole(capacity) * 4;
  return { totalBytes: 2 * layers * layer + scores, largestBytes: Math.max(layer, scores) };
}

/**
 * An empty cache.
 * @throws {RangeError} when a layer passes what the adapter binds; fewer rows or positions then.
 */
export function createKvCache(gpu: Gpu, sizes: KvCacheSizes): KvCache {
  const { layers, B, H, KVH, D } = sizes;
  const capacity = whole(sizes.capacity);
  const { largestBytes } = kvCacheBytes(sizes);
  const limit = gpu.facts.limits.maxBindingBytes;
  if (largestBytes > limit) {
    throw new RangeError(
      `Cannot cache ${B} rows of ${capacity} positions: a layer takes ${largestBytes} bytes, the ` +
        `adapter binds ${limit}. Use fewer rows or positions at once.`,
    );
  }
  const shape = [B, KVH, capacity, D];
  return {
    layers: Array.from({ length: layers }, () => ({
      // Zeros, because positions past a row's end are read, and weighed with 0.
      k: gpu.zeros("kv_cache.k", shape),
      v: gpu.zeros("kv_cache.v", shape),
    })),
    lengths: gpu.zeros("kv_cache.lengths", [B], "u32"),
    scores: gpu.tensor("kv_cache.scores", [B, H, capacity]),
    B,
    H,
    KVH,
    D,
    capacity,
  };
}

/** Gives the cache's tensors back. */
export function releaseKvCache(gpu: Gpu, { layers, lengths, scores }: KvCache): void {
  gpu.release(lengths, scores, ...layers.flatMap(({ k, v }) => [k, v]));
}

const paramsOf = ({ B, H, KVH, D, capacity }: KvCache) => [
  B,
  H,
  KVH,
  D / 4,
  capacity,
  f32Word(1 / Math.sqrt(D)),
  capacity,
];

function check(what: string, tensor: Tensor, wanted: number[]): void {
  if (`${tensor.shape}` !== `${wanted}`) {
    throw new RangeError(
      `Cannot ${what} ${tensor.label} (${tensor.shape}): wanted (${wanted}) to match the cache`,
    );
  }
}

/**
 * Fills the rows of a layer with prompts: row b takes sample rowSources[b] (B) u32 of the packed k
 * and v (T, KVH, D), or stays as it is where that is 0xffffffff. `lengths` stays as it is.
 * @throws {RangeError} when a sample is longer than the cache's capacity, or shapes differ.
 */
export function writeKv(
  gpu: Gpu,
  { k, v, cache, layer, segments, rowSources }: {
    k: Tensor;
    v: Tensor;
    cache: KvCache;
    layer: number;
    segments: SegmentTensors;
    rowSources: Tensor;
  },
): void {
  const { B, KVH, D, capacity } = cache;
  check("cache", k, [segments.T, KVH, D]);
  check("cache", v, [segments.T, KVH, D]);
  check("cache rows by", rowSources, [B]);
  if (segments.maxLength > capacity) {
    throw new RangeError(
      `Cannot cache a sample of ${segments.maxLength} positions: there is room for ${capacity}`,
    );
  }
  const count = segments.maxLength * KVH * D / 4;
  const to = cache.layers[layer];
  gpu.run(
    write,
    [k, v, to.k, to.v, segments.starts, rowSources],
    [...gpu.grid(Math.ceil(count / workgroupSize)), B],
    paramsOf(cache),
  );
}

/** Puts k and v (B, KVH, D) of the new tokens at position lengths[b] of each row. */
export function appendKv(
  gpu: Gpu,
  { k, v, cache, layer }: { k: Tensor; v: Tensor; cache: KvCache; layer: number },
): void {
  const { B, KVH, D, lengths } = cache;
  check("append", k, [B, KVH, D]);
  check("append", v, [B, KVH, D]);
  const to = cache.layers[layer];
  gpu.run(
    append,
    [k, v, to.k, to.v, lengths],
    gpu.grid(Math.ceil(elementCount(k.shape) / 4 / workgroupSize)),
    paramsOf(cache),
  );
}

/**
 * y (B, H, D) = attention of the new tokens' q (B, H, D) over positions 0 to lengths[b], the appended
 * one included. No row may have over `maxLength` of them; work is proportional to it.
 */
export function attentionDecode(
  gpu: Gpu,
  { q, cache, layer, y }: { q: Tensor; cache: KvCache; layer: number; y: Tensor },
  maxLength = cache.capacity,
): void {
  const { B, H, KVH, D, lengths, scores: probs } = cache;
  check("attend from", q, [B, H, D]);
  check("attend to", y, [B, H, D]);
  const params = paramsOf(cache);
  const group = H / KVH;
  const perTile = tileHeads(group);
  const headTiles = Math.ceil(group / 4);
  const lines = B * KVH * headTiles;
  const { k, v } = cache.layers[layer];
  const columns = Math.ceil(Math.min(maxLength, cache.capacity) / positionsAGroup);
  gpu.run(
    scores[perTile - 1],
    [q, k, lengths, probs],
    [columns, Math.ceil(lines / tilesAGroup)],
    params,
  );
  const variant = sums[variantOf(gpu, attentionDecodeOp(group), attentionDecodeVariants(gpu))];
  gpu.run(
    variant.softmax,
    [lengths, probs],
    gpu.grid(Math.ceil(B * H * variant.lanesARow / workgroupSize)),
    params,
  );
  gpu.run(
    variant.sumValues[perTile - 1],
    [probs, v, lengths, y],
    gpu.grid(Math.ceil(lines * D / 4 * variant.splits / workgroupSize)),
    params,
  );
}

/** lengths += 1 for the rows whose `done` (B) u32 is 0, up to the capacity. */
export function advance(gpu: Gpu, { cache, done }: { cache: KvCache; done: Tensor }): void {
  gpu.run(
    advanceKernel,
    [cache.lengths, done],
    [Math.ceil(cache.B / workgroupSize)],
    paramsOf(cache),
  );
}
