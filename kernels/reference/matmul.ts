/** y (M, N) = x (M, K) W^T + bias and dx (M, K) = dy (M, N) W in f64; W is (N, K). */
export function matmulReference(
  { x, dy, weight, bias, M, N, K }: {
    x: ArrayLike<number>;
    dy: ArrayLike<number>;
    weight: ArrayLike<number>;
    bias: ArrayLike<number>;
    M: number;
    N: number;
    K: number;
  },
): { y: Float64Array; dx: Float64Array } {
  const y = new Float64Array(M * N), dx = new Float64Array(M * K);
  for (let m = 0; m < M; m++) {
    for (let n = 0; n < N; n++) {
      let sum = bias[n];
      const scale = dy[m * N + n];
      for (let k = 0; k < K; k++) {
        sum += x[m * K + k] * weight[n * K + k];
        dx[m * K + k] += scale * weight[n * K + k];
      }
      y[m * N + n] = sum;
    }
  }
  return { y, dx };
}
