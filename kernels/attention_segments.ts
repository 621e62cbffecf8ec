// Where the samples of a packed batch lie, and the room attention needs for their scores. A sample's
// scores are a square of its length rounded up to 4; squares of a head lie one after another. What does
// not fit the limit goes in parts, by heads first and then by blocks of rows.

import type { Gpu } from "./gpu/gpu.ts";
import type { Tensor } from "./gpu/tensor.ts";

/** Rows of a sample that go together. */
export const blockSize = 32;
/** Scores held at once; more would only take memory. */
const partBytes = 256 * 2 ** 20;

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

export interface Layout {
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
export interface Part {
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
