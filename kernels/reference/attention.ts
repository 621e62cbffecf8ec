// Causal grouped-query attention over packed samples in f64, forward and analytic backward.

export interface AttentionShape {
  H: number;
  KVH: number;
  D: number;
  segmentStarts: ArrayLike<number>;
}

type Values = ArrayLike<number>;

/** Calls `visit` with each query head's token, its sample's start, and its row of probabilities. */
function eachRow(
  q: Values,
  k: Values,
  { H, KVH, D, segmentStarts }: AttentionShape,
  visit: (row: { t: number; h: number; kvh: number; start: number; p: Float64Array }) => void,
): void {
  for (let s = 0; s + 1 < segmentStarts.length; s++) {
    const start = segmentStarts[s];
    for (let t = start; t < segmentStarts[s + 1]; t++) {
      for (let h = 0; h < H; h++) {
        const kvh = Math.floor(h / (H / KVH));
        const p = new Float64Array(t - start + 1);
        for (let j = 0; j < p.length; j++) {
          for (let d = 0; d < D; d++) {
            p[j] += q[(t * H + h) * D + d] * k[((start + j) * KVH + kvh) * D + d] / Math.sqrt(D);
          }
        }
        const top = p.reduce((most, x) => Math.max(most, x), -Infinity);
        const sum = p.reduce((total, x) => total + Math.exp(x - top), 0);
        visit({ t, h, kvh, start, p: p.map((x) => Math.exp(x - top) / sum) });
      }
    }
  }
}

/** y (T, H, D) */
export function attentionReference(
  q: Values,
  k: Values,
  v: Values,
  shape: AttentionShape,
): Float64Array {
  const { H, KVH, D } = shape;
  const y = new Float64Array(q.length);
  eachRow(q, k, shape, ({ t, h, kvh, start, p }) => {
    for (let j = 0; j < p.length; j++) {
      for (let d = 0; d < D; d++) {
        y[(t * H + h) * D + d] += p[j] * v[((start + j) * KVH + kvh) * D + d];
      }
    }
  });
  return y;
}

/** dq (T, H, D), dk and dv (T, KVH, D) */
export function attentionBackwardReference(
  q: Values,
  k: Values,
  v: Values,
  dy: Values,
  shape: AttentionShape,
): { dq: Float64Array; dk: Float64Array; dv: Float64Array } {
  const { H, KVH, D } = shape;
  const dq = new Float64Array(q.length);
  const dk = new Float64Array(k.length);
  const dv = new Float64Array(v.length);
  eachRow(q, k, shape, ({ t, h, kvh, start, p }) => {
    const from = (t * H + h) * D;
    const dp = p.map((_, j) => {
      let sum = 0;
      for (let d = 0; d < D; d++) sum += dy[from + d] * v[((start + j) * KVH + kvh) * D + d];
      return sum;
    });
    const delta = p.reduce((sum, x, j) => sum + x * dp[j], 0);
    for (let j = 0; j < p.length; j++) {
      const ds = p[j] * (dp[j] - delta) / Math.sqrt(D);
      const to = ((start + j) * KVH + kvh) * D;
      for (let d = 0; d < D; d++) {
        dq[from + d] += ds * k[to + d];
        dk[to + d] += ds * q[from + d];
        dv[to + d] += p[j] * dy[from + d];
      }
    }
  });
  return { dq, dk, dv };
}
