// The tokens that may be sampled and their probabilities in f64, cut as Transformers cuts them.

export interface Cuts {
  temperature: number;
  topK?: number;
  topP?: number;
  minP?: number;
}

/** Probability of each token: temperature, top-k, top-p, min-p, in this order; 0 where it is cut. */
export function sampleReference(
  logits: ArrayLike<number>,
  { temperature, topK = 0, topP = 1, minP = 0 }: Cuts,
): Float64Array {
  const top = Math.max(...Array.from(logits).filter(Number.isFinite));
  const weights = Float64Array.from(
    logits,
    (x) => Number.isFinite(x) ? Math.exp((x - top) / temperature) : 0,
  );
  const order = Array.from(weights.keys()).filter((token) => Number.isFinite(logits[token]))
    .sort((a, b) => logits[b] - logits[a]);
  let kept = order;
  if (topK > 0) {
    const last = logits[order[Math.min(topK, order.length) - 1]];
    kept = order.filter((token) => logits[token] >= last);
  }
  if (topP < 1) {
    const total = kept.reduce((sum, token) => sum + weights[token], 0);
    let before = 0;
    const cut = kept.findIndex((token) => (before += weights[token]) >= topP * total);
    const last = logits[kept[cut === -1 ? kept.length - 1 : cut]];
    kept = kept.filter((token) => logits[token] >= last);
  }
  kept = kept.filter((token) => weights[token] >= minP);
  const total = kept.reduce((sum, token) => sum + weights[token], 0);
  const result = new Float64Array(logits.length);
  for (const token of kept) result[token] = weights[token] / total;
  return result;
}
