// One pass of packed samples through the decoder: forward to log-probabilities, and backward to
// LoRA's gradients. Between the two only each block's input is kept; a block's activations are
// computed again in its backward (gradient checkpointing), unless all of them fit in
// `keepActivationBytes`.

import {
  attention,
  attentionBackward,
  type AttentionWorkspace,
  createAttentionWorkspace,
  releaseAttentionWorkspace,
  releaseSegments,
  type SegmentTensors,
  uploadSegments,
} from "../../kernels/attention.ts";
import { embedding } from "../../kernels/embedding.ts";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import type { Tensor } from "../../kernels/gpu/tensor.ts";
import type { PackedBatch } from "../data/pack.ts";
import type { Adapter, LoraDropout } from "../lora/adapter.ts";
import {
  type Attend,
  type BlockActivations,
  blockBackward,
  type BlockContext,
  blockForward,
  releaseActivations,
} from "./block.ts";
import type { ModelConfig } from "./config.ts";
import { type Decoder, reserveRope } from "./decoder.ts";
import { head, headChunkRows } from "./head.ts";

const keepActivationBytes = 384 * 2 ** 20;

/** A packed batch on the GPU: T tokens, M of them scored. */
export interface DeviceBatch {
  tokens: Tensor;
  positions: Tensor;
  segments: SegmentTensors;
  scored: { numbers: Tensor; targets: Tensor };
  T: number;
  M: number;
}

/** Puts a packed batch on the GPU. @throws {GpuError} when a sample passes the model's positions. */
export function uploadBatch(gpu: Gpu, decoder: Decoder, packed: PackedBatch): DeviceBatch {
  reserveRope(gpu, decoder, packed.positions.reduce((most, p) => Math.max(most, p), 0) + 1);
  return {
    tokens: gpu.upload("batch.tokens", packed.tokens),
    positions: gpu.upload("batch.positions", packed.positions),
    segments: uploadSegments(gpu, packed.segmentStarts),
    scored: {
      numbers: gpu.upload("batch.scored", packed.lossPositions),
      targets: gpu.upload("batch.targets", packed.lossTargets),
    },
    T: packed.tokens.length,
    M: packed.lossPositions.length,
  };
}

/** Gives a batch's tensors back. */
export function releaseBatch(gpu: Gpu, batch: DeviceBatch): void {
  gpu.release(batch.tokens, batch.positions, batch.scored.numbers, batch.scored.targets);
  releaseSegments(gpu, batch.segments);
}

/** Bytes one block's activations take for T tokens, attention's workspace aside. */
export function blockActivationBytes(config: ModelConfig, T: number): number {
  const { hiddenSize: C, intermediateSize: F, heads: H, kvHeads: KVH, headSize: D } = config;
  const perHead = config.qkNorm ? 2 : 1;
  return 4 * T * (3 * C + (1 + perHead) * H * D + (1 + perHead) * KVH * D + 3 * F);
}

/** Bytes a forward-backward of T tokens (M scored) takes besides the weights: an upper estimate. */
export function passBytes(config: ModelConfig, T: number, M: number): number {
  const block = blockActivationBytes(config, T);
  const kept = Math.max(block, Math.min(block * config.layers, keepActivationBytes));
  const residual = 4 * T * config.hiddenSize * (config.layers + 3);
  const logits = 4 * Math.min(M, headChunkRows(config.vocabSize)) * config.vocabSize;
  return kept + block + residual + logits + 4 * M * config.hiddenSize * 4;
}

/** A model as it acts: the base and what rides on it. */
export interface Policy {
  decoder: Decoder;
  adapter: Adapter | null;
}

/** What turns log-probabilities into dL/dlogp (M); `derive` runs per chunk after its values. */
export interface Objective {
  dlogp: Tensor;
  derive?: (first: number, count: number) => void;
}

/**
 * Runs all blocks over embedded tokens (T) u32 and answers the last one's output x (T, C), which the
 * caller releases. `keep` is given each block's input and activations to own; without it they are
 * released as soon as they are read.
 */
export function forward(
  context: BlockContext,
  tokens: Tensor,
  attend: Attend,
  keep?: (x: Tensor, activations: BlockActivations) => void,
): Tensor {
  const { gpu, decoder } = context;
  let x = gpu.tensor("forward.x", [tokens.shape[0], decoder.config.hiddenSize]);
  embedding(gpu, { tokens, weight: decoder.embedding, x });
  for (let layer = 0; layer < decoder.config.layers; layer++) {
    const y = gpu.tensor("forward.x", x.shape);
    const activations = blockForward(context, layer, { x, y }, attend);
    if (keep) {
      keep(x, activations);
    } else {
      releaseActivations(gpu, activations);
      gpu.release(x);
    }
    x = y;
    // Long submissions trip a display driver's watchdog; a decode step is short.
    if (tokens.shape[0] >= 128) gpu.flush();
  }
  return x;
}

/**
 * values (M, 4) f32 (logp, log-sum-exp, entropy, target is the largest) of the batch's scored tokens.
 * With an objective, adds the gradient to the adapter's `grad` too.
 */
export function pass(
  gpu: Gpu,
  { decoder, adapter }: Policy,
  { batch, values }: { batch: DeviceBatch; values: Tensor },
  { objective, dropout = null, temperature = 1, keepBytes = keepActivationBytes }: {
    objective?: Objective;
    dropout?: LoraDropout | null;
    temperature?: number;
    /** Activations past this are computed again in the backward. */
    keepBytes?: number;
  } = {},
): void {
  const context: BlockContext = { gpu, decoder, adapter, dropout, positions: batch.positions };
  const workspace = createAttentionWorkspace(gpu, batch.segments, decoder.config.heads);
  const attend: Attend = (_, q, k, v, y) =>
    attention(gpu, { q, k, v, y, segments: batch.segments, workspace });
  if (objective) {
    const kept = forwardKeeping(context, batch, attend, keepBytes);
    const dx = gpu.tensor("pass.dx", kept.x.shape);
    head(gpu, decoder, { x: kept.x, scored: batch.scored, values }, {
      temperature,
      backward: { dx, ...objective },
    });
    gpu.release(kept.x);
    backward(context, batch, { dx, kept, workspace, attend });
    gpu.release(dx);
  } else {
    const x = forward(context, batch.tokens, attend);
    head(gpu, decoder, { x, scored: batch.scored, values }, { temperature });
    gpu.release(x);
  }
  releaseAttentionWorkspace(gpu, workspace);
}

/** What the backward starts from: block inputs, and activations where all of them fit. */
interface Kept {
  /** The last block's output. */
  x: Tensor;
  inputs: Tensor[];
  activations: BlockActivations[] | null;
}

function forwardKeeping(
  context: BlockContext,
  batch: DeviceBatch,
  attend: Attend,
  keepBytes: number,
): Kept {
  const { config } = context.decoder;
  const all = blockActivationBytes(config, batch.T) * config.layers <= keepBytes;
  const inputs: Tensor[] = [];
  const activations: BlockActivations[] | null = all ? [] : null;
  const x = forward(context, batch.tokens, attend, (input, made) => {
    inputs.push(input);
    if (activations) activations.push(made);
    else releaseActivations(context.gpu, made);
  });
  return { x, inputs, activations };
}

/** Takes dx (T, C) from the last block's output to the first one's input, block by block. */
function backward(
  context: BlockContext,
  batch: DeviceBatch,
  { dx, kept, workspace, attend }: {
    dx: Tensor;
    kept: Kept;
    workspace: AttentionWorkspace;
    attend: Attend;
  },
): void {
  const { gpu, decoder } = context;
  const { segments } = batch;
  const recomputed = gpu.tensor("backward.recomputed", dx.shape);
  for (let layer = decoder.config.layers - 1; layer >= 0; layer--) {
    const x = kept.inputs[layer];
    const known = kept.activations?.[layer];
    const activations = known ?? blockForward(context, layer, { x, y: recomputed }, attend);
    blockBackward(
      context,
      layer,
      { x, dx, activations },
      (_, qkv, dy, gradients) =>
        attentionBackward(gpu, { ...qkv, dy, ...gradients, segments, workspace }, {
          // The workspace holds this block's probabilities: computed again just now, or last of all.
          fresh: known === undefined || layer === decoder.config.layers - 1,
        }),
    );
    releaseActivations(gpu, activations);
    gpu.release(x);
    gpu.flush();
  }
  gpu.release(recomputed);
}
