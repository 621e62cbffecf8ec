// AdamW over the LoRA elements a phase trains. Moments exist for those only, so memory and time shrink
// with the active share, and an inactive element keeps every bit: no gradient, no decay, no momentum.
// Gradients accumulate in the adapter's `grad` across micro-batches; whoever computes the loss scales
// it for that, and clears it. Two runs give the same bits: every reduction has a fixed shape.

import { adamw, adamwScalars } from "../../kernels/adamw.ts";
import type { Indices } from "../../kernels/compact.ts";
import { gradNorm } from "../../kernels/grad_norm.ts";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import type { Tensor } from "../../kernels/gpu/tensor.ts";

/** A phase's settings that the optimizer needs, by their names in settings.ts. */
export interface OptimizerSettings {
  adam_beta1: number;
  adam_beta2: number;
  adam_epsilon: number;
  weight_decay: number;
  /** 0 turns clipping off. */
  max_grad_norm: number;
}

export interface Optimizer {
  /** First and second moments, (n) f32. */
  readonly m: Tensor;
  readonly v: Tensor;
  /**
   * (4) f32 after a step: gradient norm over the active elements before clipping, clip coefficient,
   * 1 if the step was refused because a gradient is NaN or Inf, and steps refused so far.
   */
  readonly gradNorm: Tensor;
  /** Steps so far; set it, `m` and `v` to go on from a checkpoint. */
  steps: number;
  /**
   * One step at this learning rate from the accumulated gradient. Nothing is read back. Where an
   * active gradient is NaN or Inf, no parameter and no moment changes.
   */
  step(learningRate: number): void;
  /** Releases its buffers, not the indices it was made with. */
  release(): void;
}

/** An optimizer of phi (E) f32 by its gradient grad (E) f32, with moments of zero. */
export function createOptimizer(
  gpu: Gpu,
  { phi, grad }: { phi: Tensor; grad: Tensor },
  active: Indices,
  settings: OptimizerSettings,
): Optimizer {
  const { indices, count } = active;
  const [m, v, hyper, outcome] = gpu.scope(() => [
    gpu.zeros("optimizer.m", [Math.max(count, 1)]),
    gpu.zeros("optimizer.v", [Math.max(count, 1)]),
    gpu.zeros("optimizer.hyper", [8]),
    gpu.zeros("optimizer.grad_norm", [4]),
  ]);
  return {
    m,
    v,
    gradNorm: outcome,
    steps: 0,
    step(learningRate) {
      this.steps++;
      if (count === 0) return;
      gpu.write(
        hyper,
        adamwScalars({
          lr: learningRate,
          beta1: settings.adam_beta1,
          beta2: settings.adam_beta2,
          eps: settings.adam_epsilon,
          weightDecay: settings.weight_decay,
          maxGradNorm: settings.max_grad_norm,
          step: this.steps,
        }),
      );
      gradNorm(gpu, { g: grad, indices, hyper, outcome }, count);
      adamw(gpu, { phi, g: grad, indices, m, v, hyper, outcome }, count);
    },
    release() {
      gpu.release(m, v, hyper, outcome);
    },
  };
}

/** Every element of an adapter: training without a partition. The caller releases `indices`. */
export function allElements(gpu: Gpu, elements: number): Indices {
  const indices = Uint32Array.from({ length: elements }, (_, index) => index);
  return { indices: gpu.upload("active.indices", indices), count: elements };
}
