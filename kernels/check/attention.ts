// Attention over packed samples, and of one new token over the KV cache.

import {
  attention,
  attentionBackward,
  attentionVariants,
  type AttentionWorkspace,
  createAttentionWorkspace,
  releaseAttentionWorkspace,
  releaseSegments,
  type SegmentTensors,
  uploadSegments,
} from "../attention.ts";
import {
  advance,
  appendKv,
  attentionDecode,
  attentionDecodeOp,
  attentionDecodeVariants,
  createKvCache,
  writeKv,
} from "../attention_decode.ts";
import { attentionBackwardReference, attentionReference } from "../reference/attention.ts";
import type { OpCheck, Trial } from "./trial.ts";

// A lone token, one past a block of rows, and a sample that is not a multiple of four.
const segmentStarts = new Uint32Array([0, 1, 34, 73]);
const [T, H, KVH, D] = [73, 4, 2, 12];

/** Inputs and their tensors, and `run` with the segments and a workspace. */
function packed(trial: Trial) {
  const { gpu } = trial;
  const q = trial.normal(T * H * D, 2),
    k = trial.normal(T * KVH * D, 2),
    v = trial.normal(T * KVH * D);
  const tensors = {
    q: trial.input(q, [T, H, D]),
    k: trial.input(k, [T, KVH, D]),
    v: trial.input(v, [T, KVH, D]),
  };
  const run = (
    work: (room: { segments: SegmentTensors; workspace: AttentionWorkspace }) => void,
  ) => {
    const segments = uploadSegments(gpu, segmentStarts);
    const workspace = createAttentionWorkspace(gpu, segments, H);
    work({ segments, workspace });
    releaseAttentionWorkspace(gpu, workspace);
    releaseSegments(gpu, segments);
  };
  return { values: { q, k, v }, tensors, run };
}

export const attentionCheck: OpCheck = {
  op: "attention",
  variants: attentionVariants,
  record(trial) {
    const { values: { q, k, v }, tensors, run } = packed(trial);
    const y = trial.output([T, H, D]);
    run((room) => attention(trial.gpu, { ...tensors, ...room, y }));
    trial.expect(y, () => attentionReference(q, k, v, { H, KVH, D, segmentStarts }));
  },
};

export const attentionBackwardCheck: OpCheck = {
  op: "attention backward",
  variants: attentionVariants,
  record(trial) {
    const { values: { q, k, v }, tensors, run } = packed(trial);
    const values = trial.normal(T * H * D), dy = trial.input(values, [T, H, D]);
    const dq = trial.output([T, H, D]);
    const dk = trial.output([T, KVH, D]), dv = trial.output([T, KVH, D]);
    run((room) => attentionBackward(trial.gpu, { ...tensors, ...room, dy, dq, dk, dv }));
    const shape = { H, KVH, D, segmentStarts };
    const wanted = () => attentionBackwardReference(q, k, v, values, shape);
    trial.expect(dq, () => wanted().dq);
    trial.expect(dk, () => wanted().dk);
    trial.expect(dv, () => wanted().dv);
  },
};

/** Decoding with so many query heads to one of keys. */
export const attentionDecodeCheck = (group: number): OpCheck => ({
  op: attentionDecodeOp(group),
  variants: attentionDecodeVariants,
  record: (trial) => recordDecode(trial, group),
});

/** Two rows with one prompt each in their cache, and one token more. */
function recordDecode(trial: Trial, group: number): void {
  const { gpu } = trial;
  const H = KVH * group, B = 2;
  const prompts = [3, 70], starts = [0, 3, T];
  const k = trial.normal(T * KVH * D, 2), v = trial.normal(T * KVH * D);
  const q = trial.normal(B * H * D, 2);
  const newK = trial.normal(B * KVH * D, 2), newV = trial.normal(B * KVH * D);
  const segments = uploadSegments(gpu, Uint32Array.from(starts));
  const cache = createKvCache(gpu, { layers: 1, B, H, KVH, D, capacity: 73 });
  for (const { k, v } of cache.layers) [k, v].forEach((tensor) => trial.hold(tensor));
  trial.hold(cache.scores);
  trial.hold(cache.lengths);
  writeKv(gpu, {
    k: trial.input(k, [T, KVH, D]),
    v: trial.input(v, [T, KVH, D]),
    cache,
    layer: 0,
    segments,
    rowSources: trial.input(Uint32Array.of(0, 1)),
  });
  releaseSegments(gpu, segments);
  gpu.write(cache.lengths, Uint32Array.from(prompts));
  const tokens = { k: trial.input(newK, [B, KVH, D]), v: trial.input(newV, [B, KVH, D]) };
  appendKv(gpu, { ...tokens, cache, layer: 0 });
  const y = trial.output([B, H, D]);
  attentionDecode(gpu, { q: trial.input(q, [B, H, D]), cache, layer: 0, y });
  advance(gpu, { cache, done: trial.input(Uint32Array.of(0, 1)) });
  trial.expectExactly(cache.lengths, () => [prompts[0] + 1, prompts[1]]);
  trial.expect(y, () =>
    prompts.flatMap((length, b) => {
      const [from, to] = [starts[b], starts[b + 1]].map((at) => at * KVH * D);
      const own = (values: Float32Array, size: number) => values.subarray(b * size, (b + 1) * size);
      const keys = [...k.subarray(from, to), ...own(newK, KVH * D)];
      const values = [...v.subarray(from, to), ...own(newV, KVH * D)];
      // Only the last token's query counts.
      const queries = new Float64Array((length + 1) * H * D);
      queries.set(own(q, H * D), length * H * D);
      const shape = { H, KVH, D, segmentStarts: [0, length + 1] };
      return [...attentionReference(queries, keys, values, shape).subarray(length * H * D)];
    }));
}
