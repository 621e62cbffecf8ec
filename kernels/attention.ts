// Causal grouped-query attention over packed samples, three passes a direction:
//   S = Q K^T / sqrt(D), P = softmax(S), Y = P V
//   dP = dY V^T, dS = P (dP - rowsum(P dP)) / sqrt(D), dQ = dS K, dK = dS^T Q, dV = P^T dY
// (Vaswani et al. 2017; heads share keys as in Ainslie et al. 2023). P is stored, because on a CPU
// that is 4 x faster than the online softmax of Dao et al. 2022. A token sees only its own sample,
// and no work is done across samples. What does not fit `partBytes` goes in parts: heads, then rows.

import type { Gpu } from "./gpu/gpu.ts";
import { f32Word } from "./gpu/gpu.ts";
import type { Kernel } from "./gpu/pipelines.ts";
import type { Tensor } from "./gpu/tensor.ts";
import code from "./attention.wgsl" with { type: "text" };
import index from "./index.wgsl" with { type: "text" };

const workgroupSize = 64;
const blockSize = 32;
/** Scores held at once; more would only take memory. */
const partBytes = 256 * 2 ** 20;

const kernel = (entryPoint: string, constants: Record<string, number>): Kernel => ({
  label: `attention.${entryPoint}`,
  code: index + code,
  entryPoint,
  constants,
});
const sized = { workgroup_size: workgroupSize, block_size: blockSize };
const scores = kernel("scores", {});
const softmax = kernel("softmax", sized);
const softmaxBackward = kernel("softmax_backward", sized);
const sumKeys = kernel("sum_keys", sized);
const sumQueries = kernel("sum_queries", sized);

/** Where the samples of a packed batch lie, for the GPU and for whoever sizes dispatches. */
export interface SegmentTensors {
  /** (S + 1) u32: sample s has tokens starts[s] to starts[s + 1]. */
  starts: Tensor;
  /** (blocks, 4) u32: first row, its sample's start and end, where its scores begin in vec4. */
  blocks: Tensor;
  /** (jobs, 2) u32: a block and one of the blocks of columns it sees. */
  jobs: Tensor;
  /** Tokens. */
  T: number;
  maxLength: number;
  layout: Layout;
}

interface Layout {
  /** As in the tensor. */
  blocks: Uint32Array<ArrayBuffer>;
  /** The first job of each block, and their number at the end. */
  firstJobs: Uint32Array<ArrayBuffer>;
  /** Scores of one head, in vec4. */
  size: number;
}

const roundedUp = (count: number) => Math.ceil(count / 4);

function layoutOf(segmentStarts: Uint32Array): Layout {
  const blocks: number[] = [];
  const firstJobs = [0];
  let size = 0;
  for (let s = 0; s + 1 < segmentStarts.length; s++) {
    const start = segmentStarts[s], end = segmentStarts[s + 1];
    if (end <= start) {
      throw new RangeError(`Cannot attend within sample ${s}: it has tokens ${start} to ${end}`);
    }
    const stride = roundedUp(end - start);
    for (let row = start; row < end; row += blockSize) {
      blocks.push(row, start, end, size + (row - start) * stride);
      firstJobs.push(firstJobs[firstJobs.length - 1] + (row - start) / blockSize + 1);
    }
    size += stride * 4 * stride;
  }
  if (size >= 2 ** 32) {
    throw new RangeError(`Cannot address ${size * 16} bytes of scores a head: pack less at once`);
  }
  return { blocks: new Uint32Array(blocks), firstJobs: new Uint32Array(firstJobs), size };
}

/** Puts the samples' starts (S + 1, the last is T) on the GPU. @throws {RangeError} for an empty sample. */
export function uploadSegments(gpu: Gpu, segmentStarts: Uint32Array): SegmentTensors {
  const layout = layoutOf(segmentStarts);
  const { blocks, firstJobs } = layout;
  const blockCount = blocks.length / 4;
  const jobs = new Uint32Array(2 * firstJobs[blockCount]);
  for (let block = 0; block < blockCount; block++) {
    for (let job = firstJobs[block]; job < firstJobs[block + 1]; job++) {
      jobs[2 * job] = block;
      jobs[2 * job + 1] = job - firstJobs[block];
    }
  }
  let maxLength = 0;
  for (let block = 0; block < blockCount; block++) {
    maxLength = Math.max(maxLength, blocks[4 * block + 2] - blocks[4 * block + 1]);
  }
  return {
    starts: gpu.upload("segments.starts", segmentStarts),
    blocks: gpu.upload("segments.blocks", blocks, [blockCount, 4]),
    jobs: gpu.upload("segments.jobs", jobs, [jobs.length / 2, 2]),
    T: segmentStarts[segmentStarts.length - 1],
    maxLength,
    layout,
  };
}

/** Gives the segments' tensors back. */
export function releaseSegments(gpu: Gpu, { starts, blocks, jobs }: SegmentTensors): void {
  gpu.release(starts, blocks, jobs);
}

/** Heads and blocks of rows whose scores are held at once. */
interface Part {
  headFirst: number;
  headCount: number;
  blockFirst: number;
  blockEnd: number;
  /** Where the blocks' scores begin in a head's and how many there are, in vec4. */
  base: number;
  share: number;
}

function partsOf(layout: Layout, heads: number, limitBytes: number): Part[] {
  const { blocks, size } = layout;
  const blockCount = blocks.length / 4;
  const limit = Math.floor(limitBytes / 16);
  const begin = (block: number) => block === blockCount ? size : blocks[4 * block + 3];
  const headStep = Math.max(1, Math.min(heads, Math.floor(limit / size)));
  const parts: Part[] = [];
  for (let headFirst = 0; headFirst < heads; headFirst += headStep) {
    const headCount = Math.min(headStep, heads - headFirst);
    for (let blockFirst = 0; blockFirst < blockCount;) {
      let blockEnd = blockFirst + 1;
      if (size <= limit) blockEnd = blockCount;
      while (blockEnd < blockCount && begin(blockEnd + 1) - begin(blockFirst) <= limit) blockEnd++;
      const base = begin(blockFirst);
      const share = begin(blockEnd) - base;
      parts.push({ headFirst, headCount, blockFirst, blockEnd, base, share });
      blockFirst = blockEnd;
    }
  }
  return parts;
}

const largestPartBytes = (parts: Part[]) =>
  parts.reduce((most, { headCount, share }) => Math.max(most, headCount * share * 16), 0);

/** Room for the scores of all heads, or of a part of them. */
export interface AttentionWorkspace {
  probs: Tensor;
  /** Allocated by the first backward. */
  dprobs: Tensor | null;
  parts: Part[];
}

const limitOf = (gpu: Gpu) => Math.min(partBytes, gpu.facts.limits.maxBindingBytes);

/** Bytes attention's workspace takes: for the forward alone, or for both directions. */
export function attentionWorkspaceBytes(
  gpu: Gpu,
  segmentStarts: Uint32Array,
  heads: number,
  backward: boolean,
): number {
  const parts = partsOf(layoutOf(segmentStarts), heads, limitOf(gpu));
  return largestPartBytes(parts) * (backward ? 2 : 1);
}

/** A workspace for `heads` query heads over these segments. */
export function createAttentionWorkspace(
  gpu: Gpu,
  segments: SegmentTensors,
  heads: number,
  limitBytes = limitOf(gpu),
): AttentionWorkspace {
  const parts = partsOf(segments.layout, heads, limitBytes);
  const probs = gpu.tensor("attention.probs", [largestPartBytes(parts) / 4]);
  return { probs, dprobs: null, parts };
}

/** Gives the workspace back. */
export function releaseAttentionWorkspace(gpu: Gpu, workspace: AttentionWorkspace): void {
  gpu.release(workspace.probs, ...(workspace.dprobs ? [workspace.dprobs] : []));
}

interface Sizes {
  T: number;
  H: number;
  KVH: number;
  D: number;
}

function sizesOf(q: Tensor, k: Tensor, v: Tensor, segments: SegmentTensors): Sizes {
  const [T, H, D] = q.shape;
  const KVH = k.shape[1];
  const wanted = `${[T, KVH, D]}`;
  if (
    q.shape.length !== 3 || `${k.shape}` !== wanted || `${v.shape}` !== wanted || H % KVH !== 0 ||
    D % 4 !== 0 || T !== segments.T
  ) {
    throw new RangeError(
      `Cannot attend from (${q.shape}) to keys (${k.shape}) and values (${v.shape}) over ` +
        `${segments.T} tokens: wanted (T, H, D) and (T, KVH, D), H a multiple of KVH, D of 4`,
    );
  }
  return { T, H, KVH, D };
}

/** One part's dispatches; each method is one. */
function partOf(gpu: Gpu, segments: SegmentTensors, part: Part, { H, KVH, D }: Sizes) {
  const { blocks, jobs, layout } = segments;
  const { headFirst, headCount, blockFirst, blockEnd, base, share } = part;
  const group = H / KVH;
  const scale = 1 / Math.sqrt(D);
  const all = layout.blocks.length / 4;
  const lastRow = blockEnd === all ? segments.T : layout.blocks[4 * blockEnd];
  const params = (factor: number, first: number, count: number) => [
    H,
    group,
    D / 4,
    f32Word(factor),
    headFirst,
    headCount,
    first,
    count,
    base,
    share,
    layout.blocks[4 * blockFirst],
    lastRow,
  ];
  const inBlocks = params(scale, blockFirst, blockEnd - blockFirst);
  const perRow = gpu.grid(Math.ceil((blockEnd - blockFirst) * blockSize / workgroupSize));
  const tiles = (count: number) =>
    gpu.grid(Math.ceil(count * blockSize / 4 * D / 4 / workgroupSize));
  const firstJob = layout.firstJobs[blockFirst];
  const jobCount = layout.firstJobs[blockEnd] - firstJob;
  const kvCount = Math.floor((headFirst + headCount - 1) / group) -
    Math.floor(headFirst / group) + 1;
  return {
    scores: (a: Tensor, b: Tensor, factor: number, products: Tensor) =>
      gpu.run(
        scores,
        [a, b, blocks, jobs, products],
        [...gpu.grid(jobCount), headCount],
        params(factor, firstJob, jobCount),
      ),
    softmax: (probs: Tensor) => gpu.run(softmax, [blocks, probs], [...perRow, headCount], inBlocks),
    softmaxBackward: (probs: Tensor, dprobs: Tensor) =>
      gpu.run(softmaxBackward, [blocks, probs, dprobs], [...perRow, headCount], inBlocks),
    sumKeys: (weights: Tensor, b: Tensor, y: Tensor) =>
      gpu.run(
        sumKeys,
        [weights, b, blocks, y],
        [...tiles(blockEnd - blockFirst), headCount],
        inBlocks,
      ),
    sumQueries: (weights: Tensor, a: Tensor, y: Tensor) =>
      gpu.run(sumQueries, [weights, a, blocks, y], [...tiles(all), kvCount], params(1, 0, all)),
    scale,
  };
}

/**
 * y (T, H, D) = attention of q (T, H, D) over k and v (T, KVH, D), all f32, RoPE already in q and k.
 * @throws {RangeError} when the shapes do not fit each other or the segments.
 */
export function attention(
  gpu: Gpu,
  { q, k, v, y, segments, workspace }: {
    q: Tensor;
    k: Tensor;
    v: Tensor;
    y: Tensor;
    segments: SegmentTensors;
    workspace: AttentionWorkspace;
  },
): void {
  const sizes = sizesOf(q, k, v, segments);
  for (const part of workspace.parts) {
    const run = partOf(gpu, segments, part, sizes);
    run.scores(q, k, run.scale, workspace.probs);
    run.softmax(workspace.probs);
    run.sumKeys(workspace.probs, v, y);
  }
}

/**
 * dq (T, H, D), dk and dv (T, KVH, D) of attention, from dy (T, H, D). The probabilities are computed
 * again, unless `fresh`: the workspace's last use was the forward of this very q, k and v.
 * @throws {RangeError} when the shapes do not fit each other or the segments.
 */
export function attentionBackward(
  gpu: Gpu,
  { q, k, v, dy, dq, dk, dv, segments, workspace }: {
    q: Tensor;
    k: Tensor;
    v: Tensor;
    dy: Tensor;
    dq: Tensor;
    dk: Tensor;
    dv: Tensor;
    segments: SegmentTensors;
    workspace: AttentionWorkspace;
  },
  { fresh = false }: { fresh?: boolean } = {},
): void {
  const sizes = sizesOf(q, k, v, segments);
  const { probs, parts } = workspace;
  const dprobs = workspace.dprobs ??= gpu.tensor("attention.dprobs", probs.shape);
  for (const part of parts) {
    const run = partOf(gpu, segments, part, sizes);
    if (!fresh || parts.length > 1) {
      run.scores(q, k, run.scale, probs);
      run.softmax(probs);
    }
    run.scores(dy, v, 1, dprobs);
    run.softmaxBackward(probs, dprobs);
    run.sumKeys(dprobs, k, dq);
    run.sumQueries(dprobs, q, dk);
    run.sumQueries(probs, dy, dv);
  }
}
