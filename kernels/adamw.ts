// AdamW (Loshchilov and Hutter 2019) as torch.optim.AdamW, over the active elements only:
//   phi *= 1 - lr wd;  m += (1 - b1)(g - m);  v = b2 v + (1 - b2) g^2;
//   phi -= lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps),  g already clipped.
// An inactive element is neither read nor written. The scalars change every step, so they come in a
// small tensor, not as parameters (those are cached by content).

import type { Gpu } from "./gpu/gpu.ts";
import type { Kernel } from "./gpu/pipelines.ts";
import type { Tensor } from "./gpu/tensor.ts";
import code from "./adamw.wgsl" with { type: "text" };
import { vec4View } from "./vec4_view.ts";

const workgroupSize = 64;
const step: Kernel = {
  label: "adamw.step",
  code,
  entryPoint: "step",
  constants: { workgroup_size: workgroupSize },
};

/** Settings of one step; `step` counts from 1. */
export interface AdamWStep {
  lr: number;
  beta1: number;
  beta2: number;
  eps: number;
  weightDecay: number;
  step: number;
  /** 0 turns clipping off. */
  maxGradNorm: number;
}

/** The step's scalars (8) f32, worked out in f64; the last is for grad_norm.ts. */
export function adamwScalars(settings: AdamWStep): Float32Array<ArrayBuffer> {
  const { lr, beta1, beta2, eps, weightDecay, maxGradNorm } = settings;
  return Float32Array.of(
    1 - lr * weightDecay,
    1 - beta1,
    beta2,
    1 - beta2,
    lr / (1 - beta1 ** settings.step),
    Math.sqrt(1 - beta2 ** settings.step),
    eps,
    maxGradNorm,
  );
}

/**
 * One step on phi (E) f32 from g (E) f32 at indices (n) u32, with moments m, v (n) f32, unless
 * outcome (4) f32 of grad_norm.ts forbids it.
 */
export function adamw(
  gpu: Gpu,
  { phi, g, indices, m, v, hyper, outcome }: {
    phi: Tensor;
    g: Tensor;
    indices: Tensor;
    m: Tensor;
    v: Tensor;
    hyper: Tensor;
    outcome: Tensor;
  },
  count: number,
): void {
  gpu.run(
    step,
    [phi, g, vec4View(indices), vec4View(m), vec4View(v), hyper, outcome],
    gpu.grid(Math.ceil(count / 4 / workgroupSize)),
    [count],
  );
}
