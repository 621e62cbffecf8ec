// The ways to multiply by a frozen weight, and which one to take: `gpu.choices` decides where it was
// measured (tuneMatmul), else a default by kind of adapter and number of rows.
//   broadcast  software adapters, weight as a texture (matmul_broadcast.ts)
//   tile_64, tile_128  GPUs, 64 columns x 64 or 128 rows a workgroup (matmul_tile.wgsl)
//   split  GPUs, forward with a few rows (matmul_split.wgsl)
//   loop  anything (matmul_loop.wgsl)

import type { Gpu } from "./gpu/gpu.ts";
import type { Kernel } from "./gpu/pipelines.ts";
import type { Tensor } from "./gpu/tensor.ts";
import { isUsable, noneRight } from "./gpu/variants.ts";
import bf16 from "./matmul_bf16.wgsl" with { type: "text" };
import { broadcastKernel, columnsALane, type Direction, rowCounts } from "./matmul_broadcast.ts";
import f16 from "./matmul_f16.wgsl" with { type: "text" };
import f32 from "./matmul_f32.wgsl" with { type: "text" };
import loop from "./matmul_loop.wgsl" with { type: "text" };
import output from "./matmul_output.wgsl" with { type: "text" };
import split from "./matmul_split.wgsl" with { type: "text" };
import tile from "./matmul_tile.wgsl" with { type: "text" };
import { canBroadcast, matmulOp, type Weight, type WeightType } from "./weight.ts";

export type MatmulVariant = "broadcast" | "tile_64" | "tile_128" | "split" | "loop";

/** One product the model runs: `rows` of x or dy times a weight (N, K). */
export interface MatmulShape {
  rows: number;
  N: number;
  K: number;
  dtype: WeightType;
  direction: Direction;
}

/** What a product reads and writes: x and y going forward, dy and dx going back. */
export interface Product {
  from: Tensor;
  weight: Weight;
  bias?: Tensor;
  to: Tensor;
}

const unpacking = { f32, f16, bf16 };

/** Kernels that read weights from buffers, with the rows and columns a workgroup of each owns. */
const buffered = {
  loop: { rows: 16, columns: 64 },
  tile_64: { rows: 64, columns: 64 },
  tile_128: { rows: 128, columns: 64 },
  split: { rows: 4, columns: 4 },
} as const;
type Buffered = keyof typeof buffered;

const kernels = new Map<string, Kernel>();

function bufferedKernel(variant: Buffered, dtype: WeightType, direction: Direction): Kernel {
  const label = `matmul_${variant}.${direction}.${dtype}`;
  const known = kernels.get(label);
  if (known) return known;
  const code = unpacking[dtype] + output + { loop, split, tile_64: tile, tile_128: tile }[variant];
  const kernel = {
    label,
    code,
    entryPoint: variant.startsWith("tile") ? variant.replace("tile", direction) : direction,
    constants: variant === "loop"
      ? {
        columns_a_group: buffered.loop.columns / 4,
        rows_a_group: buffered.loop.rows / 4,
      }
      : undefined,
  };
  kernels.set(label, kernel);
  return kernel;
}

/** The key of `gpu.choices` for a product; row counts share one up to the next power of two. */
export function matmulKey({ rows, N, K, dtype, direction }: MatmulShape): string {
  const rowClass = Math.min(1024, 2 ** Math.ceil(Math.log2(rows)));
  return `matmul.${direction} ${dtype} rows ${rowClass} of ${N} x ${K}`;
}

/** What was measured to be fastest, by type, direction and rows: the variants, and for how many sizes. */
export function measuredVariants({ choices }: Gpu): Record<string, string> {
  const counts = new Map<string, Map<string, number>>();
  for (const [key, variant] of choices) {
    const parts = key.match(/^matmul\.(\w+) (\w+) rows (\d+) of /);
    if (!parts) continue;
    const [, direction, dtype, rows] = parts;
    const name = `${dtype} ${direction}, up to ${rows} rows`;
    const byVariant = counts.get(name) ?? new Map<string, number>();
    byVariant.set(variant, (byVariant.get(variant) ?? 0) + 1);
    counts.set(name, byVariant);
  }
  return Object.fromEntries(
    [...counts].map(([name, byVariant]) => [
      name,
      [...byVariant].map(([variant, count]) => `${variant} for ${count} sizes`).join(", "),
    ]),
  );
}

/** What this adapter multiplies by: what its weights are laid out for, then what serves any product. */
export function matmulVariants(gpu: Gpu): readonly MatmulVariant[] {
  const inBuffers = bufferedVariants(gpu);
  return canBroadcast(gpu) ? ["broadcast", ...inBuffers] : inBuffers;
}

/** The variants that read buffers, between which measuring decides; the first serves any product. */
export function bufferedVariants({ facts }: Gpu): readonly MatmulVariant[] {
  return facts.software
    ? ["loop", "tile_64", "tile_128"]
    : ["loop", "tile_64", "tile_128", "split"];
}

/** The variants worth measuring for a product, the default first. */
function candidates(
  gpu: Gpu,
  { rows, N, direction }: MatmulShape,
  fromTexture: boolean,
): readonly MatmulVariant[] {
  if (fromTexture) return ["broadcast"];
  if (gpu.facts.software) return ["loop", "tile_64", "tile_128"];
  if (rows > 96) return ["tile_128", "tile_64", "loop"];
  if (rows > 16) return ["tile_64", "tile_128", "loop"];
  return canSplit(gpu, N, direction) ? ["split", "loop", "tile_64"] : ["loop", "tile_64"];
}

function canSplit(gpu: Gpu, N: number, direction: Direction): boolean {
  const groups = N / buffered.split.columns;
  return direction === "forward" && groups <= gpu.facts.limits.maxWorkgroupsPerDimension;
}

/**
 * Those of them that compute rightly here.
 * @throws {GpuError} when there is none.
 */
export function usableCandidates(
  gpu: Gpu,
  shape: MatmulShape,
  fromTexture = false,
): readonly MatmulVariant[] {
  const op = matmulOp(shape.dtype);
  const all = candidates(gpu, shape, fromTexture);
  const usable = all.filter((variant) => isUsable(gpu, op, variant));
  if (usable.length === 0) throw noneRight(gpu, op, all);
  return usable;
}

/** The variant measured to be fastest, else the default. @throws {GpuError} when none is right. */
export function variantFor(gpu: Gpu, shape: MatmulShape, weight: Weight): MatmulVariant {
  const name = gpu.choices.get(matmulKey(shape));
  const chosen = matmulVariants(gpu).find((variant) => variant === name);
  if (chosen && serves(gpu, chosen, shape, weight)) return chosen;
  return usableCandidates(gpu, shape, weight.texture !== null)[0];
}

function serves(gpu: Gpu, variant: MatmulVariant, shape: MatmulShape, weight: Weight): boolean {
  if (!isUsable(gpu, matmulOp(shape.dtype), variant)) return false;
  if (variant === "broadcast") return weight.texture !== null;
  if (weight.rows.length === 0) return false;
  return variant !== "split" || canSplit(gpu, shape.N, shape.direction);
}

/** Records a product of `rows` rows by one variant. */
export function runVariant(
  gpu: Gpu,
  variant: MatmulVariant,
  direction: Direction,
  product: Product,
  rows: number,
  accumulate: boolean,
): void {
  if (variant === "broadcast") runBroadcast(gpu, direction, product, rows, accumulate);
  else runBuffered(gpu, variant, direction, product, rows, accumulate);
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
    broadcastKernel(gpu, { dtype: weight.dtype, direction, rows: rowsAGroup }),
    // Without a bias its binding is not looked at; x stands in.
    direction === "forward" ? [from, texture, bias ?? from, to] : [from, texture, to],
    [
      Math.ceil(rows / rowsAGroup),
      Math.ceil(outer / (gpu.facts.subgroupSize * columnsALane)),
    ],
    [rows, outer, inner, outer / 4, rowBits, texelsARow, accumulate ? 1 : 0, bias ? 1 : 0],
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
