// Causal grouped-query attention over packed samples, three passes a direction:
//   S = Q K^T / sqrt(D), P = softmax(S), Y = P V
//   dP = dY V^T, dS = P (dP - rowsum(P dP)) / sqrt(D), dQ = dS K, dK = dS^T Q, dV = P^T dY
// (Vaswani et al. 2017; heads share keys as in Ainslie et al. 2023). P is stored, because on a CPU
// that is 4 x faster than the online softmax of Dao et al. 2022. A token sees only its own sample,
// and no work is done across samples.

import type { Gpu } from "./gpu/gpu.ts";
import { f32Word } from "./gpu/gpu.ts";
import type { Kernel } from "./gpu/pipelines.ts";
import type { Tensor } from "./gpu/tensor.ts";
import { variantOf } from "./gpu/variants.ts";
import code from "./attention.wgsl" with { type: "text" };
import {
  type AttentionWorkspace,
  blockSize,
  type Part,
  type SegmentTensors,
} from "./attention_segments.ts";
import index from "./index.wgsl" with { type: "text" };
import rowReduce from "./row_reduce.wgsl" with { type: "text" };

export {
  type AttentionWorkspace,
  attentionWorkspaceBytes,
  createAttentionWorkspace,
  releaseAttentionWorkspace,
  releaseSegments,
  type SegmentTensors,
  uploadSegments,
} from "./attention_segments.ts";

const workgroupSize = 64;

const kernel = (entryPoint: string, constants: Record<string, number>): Kernel => ({
  label: `attention.${entryPoint}`,
  code: index + rowReduce + code,
  entryPoint,
  constants,
});
const sized = { workgroup_size: workgroupSize, block_size: blockSize };
const scores = kernel("scores", {});
const softmaxOf = (lanesARow: number) => ({
  lanesARow,
  forward: kernel("softmax", { ...sized, lanes_a_row: lanesARow }),
  backward: kernel("softmax_backward", { ...sized, lanes_a_row: lanesARow }),
});
const softmax = { rows: softmaxOf(1), trees: softmaxOf(32) };
const sumKeys = kernel("sum_keys", sized);
const sumQueries = kernel("sum_queries", sized);

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

/** How the softmax sums: a lane a row, which a CPU posing as a GPU prefers, or trees of lanes. */
export function attentionVariants({ facts }: Gpu): readonly ("rows" | "trees")[] {
  return facts.software ? ["rows", "trees"] : ["trees", "rows"];
}

/** One part's dispatches; each method is one. */
function partOf(
  gpu: Gpu,
  op: "attention" | "attention backward",
  segments: SegmentTensors,
  part: Part,
  { H, KVH, D }: Sizes,
) {
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
  const rowKernels = softmax[variantOf(gpu, op, attentionVariants(gpu))];
  const rowLanes = (blockEnd - blockFirst) * blockSize * rowKernels.lanesARow;
  const perRow = gpu.grid(Math.ceil(rowLanes / workgroupSize));
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
    softmax: (probs: Tensor) =>
      gpu.run(rowKernels.forward, [blocks, probs], [...perRow, headCount], inBlocks),
    softmaxBackward: (probs: Tensor, dprobs: Tensor) =>
      gpu.run(rowKernels.backward, [blocks, probs, dprobs], [...perRow, headCount], inBlocks),
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
    const run = partOf(gpu, "attention", segments, part, sizes);
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
    const run = partOf(gpu, "attention backward", segments, part, sizes);
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
