// An adapter on the GPU, and how it rides along a projection: y += scale * B A x, forward and
// backward. PiSSA's residual base W - scale * B0 A0 is not a second copy of W: the starting factors
// stay on the GPU as a frozen LoRA with the opposite sign, so the base is shared and untouched.

import { dropout } from "../../kernels/dropout.ts";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import type { Tensor } from "../../kernels/gpu/tensor.ts";
import {
  lora,
  loraBackwardInput,
  loraBackwardParameters,
  type LoraModule,
} from "../../kernels/lora.ts";
import { GpuError } from "../errors.ts";
import { type Projection, projections } from "../model/config.ts";
import { deriveSeed } from "../seeds.ts";
import type { LoraLayout } from "./layout.ts";

export interface Adapter {
  layout: LoraLayout;
  /** All A and B in the layout's order, (E) f32. */
  phi: Tensor;
  /** The gradient of phi, (E) f32, or null where nothing is trained. */
  grad: Tensor | null;
  /** PiSSA's starting phi, subtracted from the base, or null. */
  residual: Tensor | null;
  /** lora_alpha / r, or lora_alpha / sqrt(r) with rsLoRA. */
  scale: number;
}

/** Dropout of one forward-backward; another `seed` gives other masks. */
export interface LoraDropout {
  p: number;
  seed: number;
}

/** Elements an adapter may have: kernels bind phi in one piece. */
export function maxAdapterElements({ facts }: Gpu): number {
  return Math.floor(facts.limits.maxBindingBytes / 4);
}

/**
 * Puts phi (E) on the GPU; `trainable` adds a zeroed gradient, `residual` is PiSSA's start.
 * @throws {GpuError} when the adapter is larger than the GPU binds in one piece.
 */
export function uploadAdapter(
  gpu: Gpu,
  layout: LoraLayout,
  phi: Float32Array,
  { scale, trainable = false, residual }: {
    scale: number;
    trainable?: boolean;
    residual?: Float32Array;
  },
): Adapter {
  const most = maxAdapterElements(gpu);
  if (layout.elements > most) {
    throw new GpuError(
      `Cannot use an adapter of ${layout.elements} elements: ${gpu.facts.description} takes ${most}. ` +
        "Lower lora.r or leave out some of lora.target_modules.",
      "lora.r",
      "out_of_memory",
    );
  }
  return gpu.scope(() => ({
    layout,
    phi: gpu.upload("adapter.phi", phi),
    grad: trainable ? gpu.zeros("adapter.grad", [layout.elements]) : null,
    residual: residual ? gpu.upload("adapter.residual", residual) : null,
    scale,
  }));
}

/** Releases an adapter's tensors. */
export function releaseAdapter(gpu: Gpu, { phi, grad, residual }: Adapter): void {
  for (const tensor of [phi, grad, residual]) if (tensor) gpu.release(tensor);
}

/** A projection of a block as LoRA sees it. */
export interface LoraSite {
  layer: number;
  projection: Projection;
}

function moduleAt({ layout }: Adapter, { layer, projection }: LoraSite): LoraModule | null {
  const pair = layout.pair(layer, projection);
  return pair && { ...pair, r: layout.r };
}

/** Every module of every layer draws its own mask. */
function maskSeed(seed: number, { layer, projection }: LoraSite): number {
  return deriveSeed(seed, "dropoutMask", layer, projections.indexOf(projection));
}

/**
 * y (T, out) += scale * B A dropout(x), x (T, in). Answers u = A dropout(x) (T, R), which the backward
 * needs and its caller releases; null where the adapter has no module there.
 */
export function applyLora(
  gpu: Gpu,
  adapter: Adapter,
  site: LoraSite,
  { x, y }: { x: Tensor; y: Tensor },
  drop: LoraDropout | null,
): Tensor | null {
  const module = moduleAt(adapter, site);
  if (!module) return null;
  const u = gpu.tensor(`lora.u.${site.projection}`, [x.shape[0], module.r]);
  if (adapter.residual) {
    lora(gpu, { x, phi: adapter.residual, u, y }, module, -adapter.scale);
  }
  const input = dropped(gpu, site, x, drop);
  lora(gpu, { x: input, phi: adapter.phi, u, y }, module, adapter.scale);
  if (input !== x) gpu.release(input);
  return u;
}

/** dx (T, in) += LoRA's part, and the adapter's grad += dA, dB, from dy (T, out), x and u. */
export function applyLoraBackward(
  gpu: Gpu,
  adapter: Adapter,
  site: LoraSite,
  { x, u, dy, dx }: { x: Tensor; u: Tensor; dy: Tensor; dx: Tensor | null },
  drop: LoraDropout | null,
): void {
  const module = moduleAt(adapter, site)!;
  const { scale, phi, residual, grad } = adapter;
  const du = gpu.tensor(`lora.du.${site.projection}`, u.shape);
  const input = dropped(gpu, site, x, drop);
  const dInput = input === x && dx ? dx : gpu.tensor("lora.dx", x.shape);
  loraBackwardInput(gpu, { dy, phi, du, dx: dInput }, module, scale, dInput === dx);
  loraBackwardParameters(gpu, { x: input, u, dy, du, grad: grad! }, module, scale);
  if (dInput !== dx) {
    if (dx && drop) {
      const seed = maskSeed(drop.seed, site);
      dropout(gpu, { x: dInput, y: dx }, { p: drop.p, seed, accumulate: true });
    }
    gpu.release(dInput);
  }
  if (input !== x) gpu.release(input);
  if (residual && dx) {
    loraBackwardInput(gpu, { dy, phi: residual, du, dx }, module, -scale);
  }
  gpu.release(du);
}

/** x itself, or a masked copy that the caller releases. */
function dropped(gpu: Gpu, site: LoraSite, x: Tensor, drop: LoraDropout | null): Tensor {
  if (!drop || drop.p === 0) return x;
  const y = gpu.tensor("lora.dropped", x.shape);
  dropout(gpu, { x, y }, { p: drop.p, seed: maskSeed(drop.seed, site) });
  return y;
}
