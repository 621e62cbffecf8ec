// One transformer block, forward and backward side by side:
//   h = norm(x); q, k, v = rope(proj(h)); middle = x + o(attention(q, k, v))
//   h2 = norm(middle); y = middle + down(swiglu(gate(h2), up(h2)))
// Base weights are frozen, so the backward gives dx and LoRA's gradients only. Attention is passed in,
// because training (packed samples) and decoding (KV cache) differ in nothing else.

import { add } from "../../kernels/add.ts";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import { reshape, type Tensor } from "../../kernels/gpu/tensor.ts";
import { linear, linearBackward } from "../../kernels/matmul.ts";
import { rmsNorm, rmsNormBackward } from "../../kernels/rms_norm.ts";
import { rope, ropeBackward } from "../../kernels/rope.ts";
import { swiglu, swigluBackward } from "../../kernels/swiglu.ts";
import { type Adapter, applyLora, applyLoraBackward, type LoraDropout } from "../lora/adapter.ts";
import type { Projection } from "./config.ts";
import type { Decoder } from "./decoder.ts";

/** What the blocks of one pass share. */
export interface BlockContext {
  gpu: Gpu;
  decoder: Decoder;
  adapter: Adapter | null;
  dropout: LoraDropout | null;
  /** (T) u32, each token's place in its own sample. */
  positions: Tensor;
}

/** Attention over q (T, H, D), k and v (T, KVH, D) into y (T, H, D). */
export type Attend = (layer: number, q: Tensor, k: Tensor, v: Tensor, y: Tensor) => void;

/** What a block's backward reads; `released` by releaseActivations. */
export interface BlockActivations {
  h: Tensor;
  /** Before q/k norm, where the architecture has it; otherwise q and k themselves. */
  qProjected: Tensor;
  kProjected: Tensor;
  q: Tensor;
  k: Tensor;
  v: Tensor;
  attended: Tensor;
  middle: Tensor;
  h2: Tensor;
  gate: Tensor;
  up: Tensor;
  activated: Tensor;
  /** LoRA's A x of each projection that has one. */
  u: Partial<Record<Projection, Tensor>>;
}

/** Gives a block's activations back. */
export function releaseActivations(gpu: Gpu, { u, ...tensors }: BlockActivations): void {
  gpu.release(...new Set([...Object.values(tensors), ...Object.values(u)]));
}

/** y (T, C) = block(x (T, C)); answers the activations, which the caller releases. */
export function blockForward(
  context: BlockContext,
  layer: number,
  { x, y }: { x: Tensor; y: Tensor },
  attend: Attend,
): BlockActivations {
  const { gpu, decoder, positions } = context;
  const { hiddenSize: C, intermediateSize: F, heads: H, kvHeads: KVH, headSize: D, rmsNormEps } =
    decoder.config;
  const block = decoder.blocks[layer];
  const T = x.shape[0];
  const u: BlockActivations["u"] = {};
  const project = (projection: Projection, input: Tensor, output: Tensor) => {
    const weight = block.weights[projection];
    linear(gpu, { x: input, weight, bias: block.biases[projection], y: output });
    if (!context.adapter) return;
    const site = { layer, projection };
    const low = applyLora(gpu, context.adapter, site, { x: input, y: output }, context.dropout);
    if (low) u[projection] = low;
  };

  const h = gpu.tensor("block.h", [T, C]);
  rmsNorm(gpu, { x, weight: block.inputNorm, y: h }, rmsNormEps);
  const qProjected = gpu.tensor("block.q", [T, H * D]);
  const kProjected = gpu.tensor("block.k", [T, KVH * D]);
  const v = gpu.tensor("block.v", [T, KVH * D]);
  project("q_proj", h, qProjected);
  project("k_proj", h, kProjected);
  project("v_proj", h, v);
  const q = headNorm(context, qProjected, block.qNorm);
  const k = headNorm(context, kProjected, block.kNorm);
  rope(gpu, { x: reshape(q, [T, H, D]), positions, table: decoder.rope });
  rope(gpu, { x: reshape(k, [T, KVH, D]), positions, table: decoder.rope });
  const attended = gpu.tensor("block.attended", [T, H * D]);
  attend(
    layer,
    reshape(q, [T, H, D]),
    reshape(k, [T, KVH, D]),
    reshape(v, [T, KVH, D]),
    reshape(attended, [T, H, D]),
  );
  const branch = gpu.tensor("block.branch", [T, C]);
  project("o_proj", attended, branch);
  const middle = gpu.tensor("block.middle", [T, C]);
  add(gpu, { a: x, b: branch, y: middle });

  const h2 = gpu.tensor("block.h2", [T, C]);
  rmsNorm(gpu, { x: middle, weight: block.postNorm, y: h2 }, rmsNormEps);
  const gate = gpu.tensor("block.gate", [T, F]);
  const up = gpu.tensor("block.up", [T, F]);
  project("gate_proj", h2, gate);
  project("up_proj", h2, up);
  const activated = gpu.tensor("block.activated", [T, F]);
  swiglu(gpu, { gate, up, y: activated });
  project("down_proj", activated, branch);
  add(gpu, { a: middle, b: branch, y });
  gpu.release(branch);
  return { h, qProjected, kProjected, q, k, v, attended, middle, h2, gate, up, activated, u };
}

/** Gradients of attention's inputs from dy (T, H, D). */
export type AttendBackward = (
  layer: number,
  activations: { q: Tensor; k: Tensor; v: Tensor },
  dy: Tensor,
  gradients: { dq: Tensor; dk: Tensor; dv: Tensor },
) => void;

/**
 * Turns dx (T, C) from the gradient of the block's output into that of its input, in place, and adds
 * LoRA's gradients to the adapter's. `activations` are those of the forward; gate and up are spent.
 */
export function blockBackward(
  context: BlockContext,
  layer: number,
  { x, dx, activations }: { x: Tensor; dx: Tensor; activations: BlockActivations },
  attendBackward: AttendBackward,
): void {
  const { gpu, decoder, positions } = context;
  const { hiddenSize: C, intermediateSize: F, heads: H, kvHeads: KVH, headSize: D, rmsNormEps } =
    decoder.config;
  const block = decoder.blocks[layer];
  const T = x.shape[0];
  const { h, q, k, v, attended, middle, h2, gate, up, activated, u } = activations;
  const projectBackward = (
    projection: Projection,
    { x: input, dy, dx: target, accumulate = false }: {
      x: Tensor;
      dy: Tensor;
      dx: Tensor;
      accumulate?: boolean;
    },
  ) => {
    linearBackward(gpu, { dy, weight: block.weights[projection], dx: target }, { accumulate });
    const low = u[projection];
    if (!low || !context.adapter) return;
    const tensors = { x: input, u: low, dy, dx: target };
    applyLoraBackward(gpu, context.adapter, { layer, projection }, tensors, context.dropout);
  };

  const dActivated = gpu.tensor("block.dactivated", [T, F]);
  projectBackward("down_proj", { x: activated, dy: dx, dx: dActivated });
  swigluBackward(gpu, { gate, up, dy: dActivated });
  gpu.release(dActivated);
  const dh = gpu.tensor("block.dh", [T, C]);
  projectBackward("gate_proj", { x: h2, dy: gate, dx: dh });
  projectBackward("up_proj", { x: h2, dy: up, dx: dh, accumulate: true });
  rmsNormBackward(gpu, { x: middle, weight: block.postNorm, dy: dh, dx }, rmsNormEps, true);

  const dAttended = gpu.tensor("block.dattended", [T, H * D]);
  projectBackward("o_proj", { x: attended, dy: dx, dx: dAttended });
  const dq = gpu.tensor("block.dq", [T, H * D]);
  const dk = gpu.tensor("block.dk", [T, KVH * D]);
  const dv = gpu.tensor("block.dv", [T, KVH * D]);
  attendBackward(
    layer,
    { q: reshape(q, [T, H, D]), k: reshape(k, [T, KVH, D]), v: reshape(v, [T, KVH, D]) },
    reshape(dAttended, [T, H, D]),
    { dq: reshape(dq, [T, H, D]), dk: reshape(dk, [T, KVH, D]), dv: reshape(dv, [T, KVH, D]) },
  );
  gpu.release(dAttended);
  ropeBackward(gpu, { x: reshape(dq, [T, H, D]), positions, table: decoder.rope });
  ropeBackward(gpu, { x: reshape(dk, [T, KVH, D]), positions, table: decoder.rope });
  const dqProjected = headNormBackward(context, activations.qProjected, dq, block.qNorm);
  const dkProjected = headNormBackward(context, activations.kProjected, dk, block.kNorm);
  projectBackward("q_proj", { x: h, dy: dqProjected, dx: dh });
  projectBackward("k_proj", { x: h, dy: dkProjected, dx: dh, accumulate: true });
  projectBackward("v_proj", { x: h, dy: dv, dx: dh, accumulate: true });
  rmsNormBackward(gpu, { x, weight: block.inputNorm, dy: dh, dx }, rmsNormEps, true);
  gpu.release(...new Set([dh, dq, dk, dv, dqProjected, dkProjected]));
}

/** Qwen 3's RMSNorm over each head of q or k; without one, x itself. */
function headNorm(context: BlockContext, x: Tensor, weight: Tensor | null): Tensor {
  if (!weight) return x;
  const y = context.gpu.tensor("block.normed_heads", x.shape);
  rmsNorm(context.gpu, { x, weight, y }, context.decoder.config.rmsNormEps);
  return y;
}

function headNormBackward(
  context: BlockContext,
  x: Tensor,
  dy: Tensor,
  weight: Tensor | null,
): Tensor {
  if (!weight) return dy;
  const dx = context.gpu.tensor("block.dnormed_heads", x.shape);
  rmsNormBackward(context.gpu, { x, weight, dy, dx }, context.decoder.config.rmsNormEps);
  return dx;
}
