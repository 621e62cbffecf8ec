// LoRA forward and backward in f64, as kernels/lora.ts names the sizes.

type Values = ArrayLike<number>;

/** c (m, n) = sum over k of term(i, j, l). */
function product(
  [m, n, k]: [number, number, number],
  term: (i: number, j: number, l: number) => number,
): Float64Array {
  const c = new Float64Array(m * n);
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < n; j++) {
      for (let l = 0; l < k; l++) c[i * n + j] += term(i, j, l);
    }
  }
  return c;
}

/** From x (T, K), dy (T, N), A (R, K), B (N, R): what is added to y, dx, A's and B's gradients. */
export function loraReference(
  { x, dy, A, B, scale }: { x: Values; dy: Values; A: Values; B: Values; scale: number },
  { T, K, N, R }: { T: number; K: number; N: number; R: number },
): Record<"u" | "y" | "du" | "dx" | "dA" | "dB", Float64Array> {
  const u = product([T, R, K], (t, r, k) => x[t * K + k] * A[r * K + k]);
  const du = product([T, R, N], (t, r, n) => scale * dy[t * N + n] * B[n * R + r]);
  return {
    u,
    y: product([T, N, R], (t, n, r) => scale * u[t * R + r] * B[n * R + r]),
    du,
    dx: product([T, K, R], (t, k, r) => du[t * R + r] * A[r * K + k]),
    dA: product([R, K, T], (r, k, t) => du[t * R + r] * x[t * K + k]),
    dB: product([N, R, T], (n, r, t) => scale * dy[t * N + n] * u[t * R + r]),
  };
}
