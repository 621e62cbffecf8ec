/** S1, S2 and |S1 - S2/2| / N in f64 from each example's gradient. */
export function importanceReference(
  gradients: readonly ArrayLike<number>[],
  phi: ArrayLike<number>,
): { s1: Float64Array; s2: Float64Array; importance: Float64Array } {
  const s1 = new Float64Array(phi.length), s2 = new Float64Array(phi.length);
  for (const g of gradients) {
    for (let i = 0; i < phi.length; i++) {
      s1[i] += g[i] * phi[i];
      s2[i] += (g[i] * phi[i]) ** 2;
    }
  }
  const importance = s1.map((sum, i) => Math.abs(sum - s2[i] / 2) / gradients.length);
  return { s1, s2, importance };
}
