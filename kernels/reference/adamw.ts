// torch.optim.AdamW after torch.nn.utils.clip_grad_norm_, in f64, over the elements in `active`.

export interface AdamWState {
  phi: Float64Array;
  m: Float64Array;
  v: Float64Array;
}

/** One step in place; answers the norm before clipping. `step` counts from 1. */
export function adamwReference(
  { phi, m, v }: AdamWState,
  g: ArrayLike<number>,
  active: ArrayLike<number>,
  { lr, beta1, beta2, eps, weightDecay, maxGradNorm, step }: {
    lr: number;
    beta1: number;
    beta2: number;
    eps: number;
    weightDecay: number;
    maxGradNorm: number;
    step: number;
  },
): number {
  let squares = 0;
  for (let k = 0; k < active.length; k++) squares += g[active[k]] ** 2;
  const norm = Math.sqrt(squares);
  const clip = maxGradNorm > 0 ? Math.min(1, maxGradNorm / (norm + 1e-6)) : 1;
  for (let k = 0; k < active.length; k++) {
    const i = active[k];
    const gradient = clip * g[i];
    phi[i] *= 1 - lr * weightDecay;
    m[i] = beta1 * m[i] + (1 - beta1) * gradient;
    v[i] = beta2 * v[i] + (1 - beta2) * gradient ** 2;
    const denominator = Math.sqrt(v[i]) / Math.sqrt(1 - beta2 ** step) + eps;
    phi[i] -= lr / (1 - beta1 ** step) * m[i] / denominator;
  }
  return norm;
}
