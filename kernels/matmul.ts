// The projections: y = x W^T + bias and dx = dy W, with W frozen in its stored type (weight.ts), by
// the variant that suits the adapter and the sizes (matmul_variants.ts).
// W's own gradient does not exist here: LoRA's factors have theirs in lora.ts.

import { matmulCheck } from "./check/matmul.ts";
import { checkVariants } from "./check/self_check.ts";
import { fastest } from "./gpu/autotune.ts";
import type { Gpu } from "./gpu/gpu.ts";
import { saveRecord } from "./gpu/record.ts";
import { elementCount, requireOwnBuffer, rows as rowsOf, type Tensor } from "./gpu/tensor.ts";
import type { Direction } from "./matmul_broadcast.ts";
import {
  bufferedVariants,
  matmulKey,
  type MatmulShape,
  type Product,
  runVariant,
  usableCandidates,
  variantFor,
} from "./matmul_variants.ts";
import { prefersTexture, type Weight } from "./weight.ts";

export interface MatmulOptions {
  /** Adds to the output instead of overwriting it. */
  accumulate?: boolean;
}

/**
 * y (M, N) = x (M, K) W^T + bias (N), all f32 but the weight (N, K); y is a tensor of its own.
 * @throws {RangeError} when the sizes do not fit each other, or y is not.
 */
export function linear(
  gpu: Gpu,
  { x, weight, bias, y }: { x: Tensor; weight: Weight; bias?: Tensor; y: Tensor },
  options: MatmulOptions = {},
): void {
  const [N] = weight.shape;
  if (bias && elementCount(bias.shape) !== N) {
    throw new RangeError(
      `Cannot add ${bias.label} (${bias.shape}) to ${y.label} (${y.shape}): ${N} columns wanted`,
    );
  }
  multiply(gpu, "forward", { from: x, weight, bias, to: y }, options);
}

/**
 * dx (M, K) = dy (M, N) W, all f32 but the weight (N, K); dx is a tensor of its own.
 * @throws {RangeError} when the sizes do not fit each other, or dx is not.
 */
export function linearBackward(
  gpu: Gpu,
  { dy, weight, dx }: { dy: Tensor; weight: Weight; dx: Tensor },
  options: MatmulOptions = {},
): void {
  multiply(gpu, "backward", { from: dy, weight, to: dx }, options);
}

function multiply(
  gpu: Gpu,
  direction: Direction,
  { from, weight, bias, to }: Product,
  { accumulate = false }: MatmulOptions,
): void {
  const [N, K] = weight.shape;
  const [inner, outer] = direction === "forward" ? [K, N] : [N, K];
  const M = checkedRows(from, inner, to, outer, weight);
  requireOwnBuffer(to, from, ...(bias ? [bias] : []));
  const variant = variantFor(gpu, { rows: M, N, K, dtype: weight.dtype, direction }, weight);
  for (const [first, count] of rowChunks(gpu, M, Math.max(N, K))) {
    const product = {
      from: part(from, M, inner, first, count),
      weight,
      bias,
      to: part(to, M, outer, first, count),
    };
    runVariant(gpu, variant, direction, product, count, accumulate);
  }
}

/** M, after checking that `from` is (M, inner) and `to` is (M, outer). */
function checkedRows(
  from: Tensor,
  inner: number,
  to: Tensor,
  outer: number,
  weight: Weight,
): number {
  const product = `${from.label} (${from.shape}) by ${weight.label} (${weight.shape})`;
  const M = elementCount(from.shape) / inner;
  if (from.shape.at(-1) !== inner || M < 1) {
    throw new RangeError(
      `Cannot multiply ${product}: inner sizes ${from.shape.at(-1)} and ${inner} differ`,
    );
  }
  if (to.shape.at(-1) !== outer || elementCount(to.shape) !== M * outer) {
    throw new RangeError(
      `Cannot multiply ${product} into ${to.label} (${to.shape}): (${M}, ${outer}) wanted`,
    );
  }
  return M;
}

/** Row ranges [first, count] whose bindings and workgroups fit the adapter, in steps of 64 rows. */
function rowChunks(gpu: Gpu, M: number, columns: number): [number, number][] {
  const { maxBindingBytes, maxWorkgroupsPerDimension } = gpu.facts.limits;
  const limit = Math.min(maxBindingBytes / (columns * 4), maxWorkgroupsPerDimension);
  if (M <= limit) return [[0, M]];
  const most = Math.floor(limit / 64) * 64;
  if (most === 0) {
    throw new RangeError(
      `Cannot bind 64 rows of ${columns} columns: the adapter allows ${maxBindingBytes} ` +
        "bytes a binding",
    );
  }
  const chunks: [number, number][] = [];
  for (let first = 0; first < M; first += most) chunks.push([first, Math.min(most, M - first)]);
  return chunks;
}

function part(tensor: Tensor, M: number, columns: number, first: number, count: number): Tensor {
  if (count === M) return tensor;
  return rowsOf({ ...tensor, shape: [M, columns] }, first, count);
}

/** Measures the variants on the products a model runs and keeps the fastest in `gpu.choices`. */
export async function tuneMatmul(gpu: Gpu, { shapes }: { shapes: MatmulShape[] }): Promise<void> {
  // A software adapter's weights have one layout, and one variant reads it.
  const open = shapes.filter(({ dtype }) => !prefersTexture(gpu, dtype));
  for (const dtype of new Set(open.map(({ dtype }) => dtype))) {
    await checkVariants(gpu, matmulCheck(dtype), bufferedVariants(gpu));
  }
  const unknown = open.filter((shape) => {
    const known = gpu.choices.get(matmulKey(shape));
    return !usableCandidates(gpu, shape).some((name) => name === known);
  });
  for (const shape of unknown) await tuneShape(gpu, shape);
  if (unknown.length > 0) await saveRecord(gpu);
}

async function tuneShape(gpu: Gpu, shape: MatmulShape): Promise<void> {
  const rows = Math.min(shape.rows, 1024);
  // A long head is as fast a column as a shorter one, and would cost hundreds of megabytes.
  const N = Math.min(shape.N, 16384);
  const [inner, outer] = shape.direction === "forward" ? [shape.K, N] : [N, shape.K];
  const from = gpu.zeros("matmul.tune.x", [rows, inner]);
  const to = gpu.tensor("matmul.tune.y", [rows, outer]);
  const tensor = gpu.zeros("matmul.tune.weight", [N, shape.K], shape.dtype);
  const weight: Weight = {
    label: tensor.label,
    shape: [N, shape.K],
    dtype: shape.dtype,
    rows: [{ first: 0, count: N, tensor }],
    texture: null,
    sizeBytes: tensor.sizeBytes,
  };
  const candidates = usableCandidates(gpu, shape).map((name) => ({
    name,
    record: () => runVariant(gpu, name, shape.direction, { from, weight, to }, rows, false),
  }));
  try {
    await fastest(gpu, matmulKey(shape), candidates);
  } finally {
    if (!gpu.failed) await gpu.destroy(from, to, tensor);
  }
}
