/** RMSNorm and its dx in f64, row by row. */
export function rmsNormReference(
  x: ArrayLike<number>,
  weight: ArrayLike<number>,
  dy: ArrayLike<number>,
  eps: number,
): { y: Float64Array; dx: Float64Array } {
  const C = weight.length, y = new Float64Array(x.length), dx = new Float64Array(x.length);
  for (let first = 0; first < x.length; first += C) {
    let squares = 0;
    for (let c = 0; c < C; c++) squares += x[first + c] ** 2;
    const scale = 1 / Math.sqrt(squares / C + eps);
    let dot = 0;
    for (let c = 0; c < C; c++) dot += x[first + c] * weight[c] * dy[first + c];
    for (let c = 0; c < C; c++) {
      const i = first + c;
      y[i] = x[i] * scale * weight[c];
      dx[i] = scale * (weight[c] * dy[i] - x[i] * scale * scale * dot / C);
    }
  }
  return { y, dx };
}
