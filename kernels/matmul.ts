// The projections: y = x W^T + bias and dx = dy W, with W frozen in its stored type (weight.ts).
// Variants, one of which `gpu.choices` or a default by kind of adapter picks:
//   broadcast  software adapters, weight as a texture (matmul_broadcast.ts)
//   tile_64, tile_128  GPUs, 64 columns x 64 or 128 rows a workgroup (matmul_tile.wgsl)
//   loop  anything (matmul_loop.wgsl)
// W's own gradient does not exist here: LoRA's factors have theirs in lora.ts.

import { fastest } from "./gpu/autotune.ts";
import type { Gpu } from "./gpu/gpu.ts";
import type { Kernel } from "./gpu/pipelines.ts";
import { elementCount, rows as rowsOf, type Tensor } from "./gpu/tensor.ts";
import bf16 from "./matmul_bf16.wgsl" with { type: "text" };
import { broadcastKernel, columnsALane, type Direction, rowCounts } from "./matmul_broadcast.ts";
import f16 from "./matmul_f16.wgsl" with { type: "text" };
import f32 from "./matmul_f32.wgsl" with { type: "text" };
import loop from "./matmul_loop.wgsl" with { type: "text" };
import output from "./matmul_output.wgsl" with { type: "text" };
import tile from "./matmul_tile.wgsl" with { type: "text" };
import { prefersTexture, type Weight, type WeightType } from "./weight.ts";

export interface MatmulOptions {
  /** Adds to the output instead of overwriting it. */
  accumulate?: boolean;
}

export type MatmulVariant = "broadcast" | "tile_64" | "tile_128" | "loop";

/** One product the model runs: `rows` of x or dy times a weight (N, K). */
export interface MatmulShape {
  rows: number;
  N: number;
  K: number;
  dtype: WeightType;
  direction: Direction;
}

const unpacking = { f32, f16, bf16 };

/** Kernels that read weights from buffers, with the rows and columns a workgroup of each owns. */
const buffered = {
  loop: { rows: 16, columns: 64 },
  tile_64: { rows: 64, columns: 64 },
  tile_128: { rows: 128, columns: 64 },
} as const;
type Buffered = keyof typeof buffered;

const kernels = new Map<string, Kernel>();

function bufferedKernel(variant: Buffered, dtype: WeightType, direction: Direction): Kernel {
  const label = `matmul_${variant}.${direction}.${dtype}`;
  const known = kernels.get(label);
  if (known) return known;
  const shared = unpacking[dtype] + output;
  const kernel = variant === "loop"
    ? {
      label,
      code: shared + loop,
      entryPoint: direction,
      constants: {
        columns_a_group: buffered.loop.columns / 4,
        rows_a_group: buffered.loop.rows / 4,
      },
    }
    : { label, code: shared + tile, entryPoint: variant.replace("tile", direction) };
  kernels.set(label, kernel);
  return kernel;
}

/**
 * y (M, N) = x (M, K) W^T + bias (N), all f32 but the weight (N, K); y is a tensor of its own.
 * @throws {RangeError} when the sizes do not fit each other.
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
 * @throws {RangeError} when the sizes do not fit each other.
 */
export function linearBackward(
  gpu: Gpu,
  { dy, weight, dx }: { dy: Tensor; weight: Weight; dx: Tensor },
  options: MatmulOptions = {},
): void {
  multiply(gpu, "backward", { from: dy, weight, to: dx }, options);
}

interface Product {
  from: Tensor;
  weight: Weight;
  bias?: Tensor;
  to: Tensor;
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
  const variant = variantFor(gpu, { rows: M, N, K, dtype: weight.dtype, direction }, weight);
  for (const [first, count] of rowChunks(gpu, M, Math.max(N, K))) {
    const product = {
      from: part(from, M, inner, first, count),
      weight,
      bias,
      to: part(to, M, outer, first, count),
    };
    if (variant === "broadcast") runBroadcast(gpu, direction, product, count, accumulate);
    else runBuffered(gpu, variant, direction, product, count, accumulate);
  }
}

function runBroadcast(
  gpu: Gpu,
  direction: Direction,
  { from, weight, bias, to }: Product,
  rows: number,
  accumulate: boolean,
): void {
  const [N, K] = weight.shape;
  const [inner, outer] = direction === "forward" ? [K, N] : [N, K];
  const { texture, rowBits, texelsARow } = weight.texture!;
  const rowsAGroup = rowCounts.find((count) => count >= rows) ?? rowCounts[rowCounts.length - 1];
  gpu.run(
    broadcastKernel(gpu, {
      dtype: weight.dtype,
      direction,
      rows: rowsAGroup,
      biased: bias !== undefined,
      accumulate,
    }),
    // Without a bias its binding is not looked at; x stands in.
    direction === "forward" ? [from, texture, bias ?? from, to] : [from, texture, to],
    [
      Math.ceil(rows / rowsAGroup),
      Math.ceil(outer / (gpu.facts.subgroupSize * columnsALane)),
    ],
    [rows, outer, inner, outer / 4, rowBits, texelsARow],
  );
}

function runBuffered(
  gpu: Gpu,
  variant: Buffered,
  direction: Direction,
  { from, weight, bias, to }: Product,
  rows: number,
  accumulate: boolean,
): void {
  const [N, K] = weight.shape;
  const kernel = bufferedKernel(variant, weight.dtype, direction);
  const group = buffered[variant];
  weight.rows.forEach(({ first, count, tensor }, number) => {
    const forward = direction === "forward";
    const [columns, inner] = forward ? [count, K] : [K, count];
    gpu.run(
      kernel,
      [from, tensor, bias ?? from, to],
      [Math.ceil(columns / group.columns), Math.ceil(rows / group.rows)],
      [
        rows,
        columns / 4,
        inner / 4,
        (forward ? K : N) / 4,
        forward ? 0 : first / 4,
        (forward ? N : K) / 4,
        forward ? first / 4 : 0,
        K / 4,
        // Going back, every range of the weight's rows adds its share of the sum.
        accumulate || (!forward && number > 0) ? 1 : 0,
        bias ? 1 : 0,
      ],
    );
  });
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

/** The key of `gpu.choices` for a product; row counts share one up to the next power of two. */
export function matmulKey({ rows, N, K, dtype, direction }: MatmulShape): string {
  const rowClass = Math.min(1024, 2 ** Math.ceil(Math.log2(rows)));
  return `matmul.${direction} ${dtype} rows ${rowClass} of ${N} x ${K}`;
}

function variantFor(gpu: Gpu, shape: MatmulShape, weight: Weight): MatmulVariant {
  const chosen = gpu.choices.get(matmulKey(shape)) as MatmulVariant | undefined;
  if (chosen === "broadcast" ? weight.texture : chosen && weight.rows.length > 0) return chosen!;
  if (weight.texture) return "broadcast";
  if (gpu.facts.software || shape.rows <= 16) return "loop";
  return shape.rows <= 96 ? "tile_64" : "tile_128";
}

/** Measures the variants on the products a model runs and keeps the fastest in `gpu.choices`. */
export async function tuneMatmul(gpu: Gpu, { shapes }: { shapes: MatmulShape[] }): Promise<void> {
  // A software adapter's weights have one layout, and one variant reads it.
  if (prefersTexture(gpu)) return;
  for (const shape of shapes) await tuneShape(gpu, shape);
}

async function tuneShape(gpu: Gpu, shape: MatmulShape): Promise<void> {
  const key = matmulKey(shape);
  if (gpu.choices.has(key)) return;
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
  const variants = shape.rows <= 16 ? ["loop"] as const : ["tile_64", "tile_128", "loop"] as const;
  await fastest(
    gpu,
    key,
    variants.map((name) => ({
      name,
      record: () => runBuffered(gpu, name, shape.direction, { from, weight, to }, rows, false),
    })),
  );
  await gpu.destroy(from, to, tensor);
}
