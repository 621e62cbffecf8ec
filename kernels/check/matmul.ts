// The products by a frozen weight of one stored type, both directions, with bias and accumulation.

import { type Direction, rowCounts } from "../matmul_broadcast.ts";
import {
  bufferedVariants,
  type MatmulVariant,
  matmulVariants,
  runVariant,
} from "../matmul_variants.ts";
import { matmulReference } from "../reference/matmul.ts";
import { matmulOp, type WeightType } from "../weight.ts";
import type { OpCheck, Trial } from "./trial.ts";

/** Rows of x: each of broadcast's kernels once, and for the others more than two halves of a tile. */
const rowsOf = (variant: MatmulVariant) =>
  variant === "broadcast"
    ? [...rowCounts.slice(0, -1), rowCounts[rowCounts.length - 1] + 1]
    : [131];

export const matmulCheck = (dtype: WeightType): OpCheck => ({
  op: matmulOp(dtype),
  variants: matmulVariants,
  record(trial, variant) {
    const name = variant as MatmulVariant;
    const directions = name === "split" ? ["forward"] as const : ["forward", "backward"] as const;
    for (const rows of rowsOf(name)) {
      for (const direction of directions) {
        recordProduct(trial, { variant: name, dtype, direction, rows });
      }
    }
  },
});

/** From buffers where the adapter prefers textures, for a weight too large for one. */
export const bufferedMatmulCheck = (dtype: WeightType): OpCheck => ({
  ...matmulCheck(dtype),
  variants: (gpu) => bufferedVariants(gpu).slice(0, 1),
});

/** Twice, the second time with accumulation and, going forward, without the bias. */
function recordProduct(
  trial: Trial,
  { variant, dtype, direction, rows: M }: {
    variant: MatmulVariant;
    dtype: WeightType;
    direction: Direction;
    rows: number;
  },
): void {
  // More than one tile of columns and of inner elements; K is 4 past a multiple of 8.
  const [N, K] = [100, 36];
  const [inner, outer] = direction === "forward" ? [K, N] : [N, K];
  const { weight, values } = trial.weight(dtype, [N, K]);
  const from = trial.normal(M * inner), bias = trial.normal(N);
  const to = trial.output([M, outer]);
  const product = { from: trial.input(from, [M, inner]), weight, to };
  const biased = direction === "forward" ? { bias: trial.input(bias) } : {};
  runVariant(trial.gpu, variant, direction, { ...product, ...biased }, M, false);
  runVariant(trial.gpu, variant, direction, product, M, true);
  trial.expect(to, () => {
    const zeros = new Float32Array(M * inner);
    const [x, dy] = direction === "forward" ? [from, new Float32Array(M * N)] : [zeros, from];
    const { y, dx } = matmulReference({ x, dy, weight: values, bias, M, N, K });
    return direction === "forward"
      ? y.map((value, i) => 2 * value - bias[i % N])
      : dx.map((value) => 2 * value);
  });
}
