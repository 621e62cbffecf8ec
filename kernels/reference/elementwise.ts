// f64 references of the small operations: SwiGLU, RoPE, dropout, cross-entropy, GRPO's token loss.

const silu = (x: number) => x / (1 + Math.exp(-x));

export function swigluReference(gate: ArrayLike<number>, up: ArrayLike<number>): Float64Array {
  return Float64Array.from(gate, (g, i) => silu(g) * up[i]);
}

export function swigluBackwardReference(
  gate: ArrayLike<number>,
  up: ArrayLike<number>,
  dy: ArrayLike<number>,
): { dgate: Float64Array; dup: Float64Array } {
  const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
  return {
    dgate: Float64Array.from(gate, (g, i) => dy[i] * up[i] * sigmoid(g) * (1 + g * sigmoid(-g))),
    dup: Float64Array.from(gate, (g, i) => dy[i] * silu(g)),
  };
}

/** x (T, H, D) rotated; `sign` -1 rotates back. */
export function ropeReference(
  x: ArrayLike<number>,
  [T, H, D]: [number, number, number],
  positions: ArrayLike<number>,
  frequencies: ArrayLike<number>,
  sign = 1,
): Float64Array {
  const y = new Float64Array(T * H * D);
  for (let t = 0; t < T; t++) {
    for (let h = 0; h < H; h++) {
      for (let i = 0; i < D / 2; i++) {
        const low = (t * H + h) * D + i, high = low + D / 2;
        const angle = sign * positions[t] * frequencies[i];
        y[low] = x[low] * Math.cos(angle) - x[high] * Math.sin(angle);
        y[high] = x[high] * Math.cos(angle) + x[low] * Math.sin(angle);
      }
    }
  }
  return y;
}

/** x times what dropout.wgsl's mask of this seed makes of 1: 0, or 1 / (1 - p). */
export function dropoutReference(x: ArrayLike<number>, p: number, seed: number): Float64Array {
  const mix = (value: number) => {
    let h = value;
    h = Math.imul(h ^ (h >>> 16), 0x7feb352d);
    h = Math.imul(h ^ (h >>> 15), 0x846ca68b);
    return (h ^ (h >>> 16)) >>> 0;
  };
  const salt = mix(seed), threshold = Math.round(p * 2 ** 32);
  return Float64Array.from(x, (value, i) => mix(salt ^ i) >= threshold ? value / (1 - p) : 0);
}

/** (logp, log-sum-exp, entropy) of a row of logits at a temperature. */
export function crossEntropyReference(
  logits: ArrayLike<number>,
  target: number,
  temperature: number,
): { logp: number; logSum: number; entropy: number } {
  const scaled = Array.from(logits, (x) => x / temperature);
  const top = Math.max(...scaled);
  const logSum = top + Math.log(scaled.reduce((sum, x) => sum + Math.exp(x - top), 0));
  const entropy = -scaled.reduce((sum, x) => sum + Math.exp(x - logSum) * (x - logSum), 0);
  return { logp: scaled[target] - logSum, logSum, entropy };
}

/** dlogp times the gradient of a row's logp by its logits. */
export function crossEntropyBackwardReference(
  logits: ArrayLike<number>,
  target: number,
  temperature: number,
  dlogp: number,
): Float64Array {
  const { logSum } = crossEntropyReference(logits, target, temperature);
  return Float64Array.from(
    logits,
    (x, i) => dlogp * ((i === target ? 1 : 0) - Math.exp(x / temperature - logSum)) / temperature,
  );
}

export interface GrpoToken {
  logp: number;
  old: number;
  reference: number;
  advantage: number;
  weight: number;
}

/** The token's weighted loss (GRPO eq. 3 with clip-higher and the k3 KL). */
export function grpoReference(
  { logp, old, reference, advantage, weight }: GrpoToken,
  { epsilon, epsilonHigh, beta }: { epsilon: number; epsilonHigh: number; beta: number },
): number {
  const ratio = Math.exp(logp - old);
  const clipped = Math.min(Math.max(ratio, 1 - epsilon), 1 + epsilonHigh);
  const kl = Math.exp(reference - logp) - (reference - logp) - 1;
  return weight * (beta * kl - Math.min(ratio * advantage, clipped * advantage));
}

/** The derivative of grpoReference by logp. */
export function grpoBackwardReference(
  { logp, old, reference, advantage, weight }: GrpoToken,
  { epsilon, epsilonHigh, beta }: { epsilon: number; epsilonHigh: number; beta: number },
): number {
  const ratio = Math.exp(logp - old);
  const clipped = Math.min(Math.max(ratio, 1 - epsilon), 1 + epsilonHigh);
  const slope = ratio * advantage <= clipped * advantage ? ratio * advantage : 0;
  return weight * (beta * (1 - Math.exp(reference - logp)) - slope);
}
