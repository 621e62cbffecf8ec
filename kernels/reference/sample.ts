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

const word = (value: number) => value >>> 0;

/** random.wgsl's four words of four counters. */
function pcg4d(counters: readonly number[]): number[] {
  const v = counters.map((counter) => word(Math.imul(counter, 1664525) + 1013904223));
  const mix = () => {
    v[0] = word(v[0] + Math.imul(v[1], v[3]));
    v[1] = word(v[1] + Math.imul(v[2], v[0]));
    v[2] = word(v[2] + Math.imul(v[0], v[1]));
    v[3] = word(v[3] + Math.imul(v[1], v[2]));
  };
  mix();
  for (let i = 0; i < 4; i++) v[i] = word(v[i] ^ (v[i] >>> 16));
  mix();
  return v;
}

/**
 * The token that sample.wgsl draws: of those with a probability the one whose log-probability and
 * Gumbel noise, keyed by (seed, sequence, tokens so far), add up to most.
 */
export function drawReference(
  logits: ArrayLike<number>,
  cuts: Cuts,
  [seed, sequence, taken]: readonly [number, number, number],
): number {
  const allowed = sampleReference(logits, cuts);
  const words = pcg4d([seed, 0, sequence, taken]);
  let best = -Infinity;
  let drawn = -1;
  for (let token = 0; token < logits.length; token++) {
    if (allowed[token] === 0) continue;
    const [first, ...rest] = words;
    const random = pcg4d([word(first + (token >> 2)), ...rest])[token & 3];
    const u = Math.min(Math.fround(Math.fround(random) + 0.5) * 2 ** -32, 1 - 2 ** -24);
    const race = logits[token] / cuts.temperature - Math.log(-Math.log1p(-u));
    if (race > best) [best, drawn] = [race, token];
  }
  return drawn;
}
