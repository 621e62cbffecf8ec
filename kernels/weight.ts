// A frozen matrix on the GPU in the type it was stored in: (N, K) = (outputs, inputs), row-major,
// expanded to f32 only inside the kernels that read it. GPUs read it from buffers, split into rows
// where one would pass the adapter's largest binding; software adapters from a texture, whose
// loads cost them a quarter of a buffer's. One layout serves both y = x W^T and dx = dy W.

import type { Gpu } from "./gpu/gpu.ts";
import { bytesPerElement, type Tensor, type Texture } from "./gpu/tensor.ts";
import { isUsable } from "./gpu/variants.ts";

export const weightTypes = ["f32", "f16", "bf16"] as const;
export type WeightType = typeof weightTypes[number];

/** Rows [first, first + count) of a weight in a tensor (count, K) of its own. */
export interface WeightRows {
  readonly first: number;
  readonly count: number;
  readonly tensor: Tensor;
}

/**
 * A weight as a texture: a texel holds 16 bytes of a row, 2^rowBits rows make a panel, and the
 * panels lie side by side, `texelsARow` wide each.
 */
export interface WeightTexture {
  readonly texture: Texture;
  readonly rowBits: number;
  readonly texelsARow: number;
}

export interface Weight {
  readonly label: string;
  /** (N, K): outputs, inputs. */
  readonly shape: readonly [number, number];
  readonly dtype: WeightType;
  /** In order, without gaps, every `first` a multiple of 64; empty when only `texture` is kept. */
  readonly rows: readonly WeightRows[];
  /** What software adapters multiply by; null elsewhere. */
  readonly texture: WeightTexture | null;
  /** Bytes on the GPU, both layouts. */
  readonly sizeBytes: number;
}

export interface MatrixSizes {
  readonly dtype: WeightType;
  readonly shape: readonly number[];
}

/** A matrix as a file holds it: row-major, little-endian. */
export interface StoredMatrix extends MatrixSizes {
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** "gathered": rows are looked up (embedding.ts); "multiplied": `linear`; the layouts follow. */
export type WeightUse = "gathered" | "multiplied";

/** Columns a software adapter's kernel walks at a time; texture rows are padded to it. */
const texturePaddedColumns = 8;

/** Whether a weight of this type is multiplied from a texture here (matmul_broadcast.ts). */
export function prefersTexture(gpu: Gpu, dtype: WeightType): boolean {
  return canBroadcast(gpu) && isUsable(gpu, matmulOp(dtype), "broadcast");
}

/** Whether the matmul that reads weights from textures suits the adapter and textures read rightly. */
export function canBroadcast(gpu: Gpu): boolean {
  return suitsTextures(gpu) && isUsable(gpu, weightLoadsOp, "texture");
}

/** Whether the adapter is better off with weights in textures. */
export function suitsTextures({ facts }: Gpu): boolean {
  return facts.software && facts.subgroupSize >= 8;
}

/** The op of reading a weight's words, as the self-check names it. */
export const weightLoadsOp = "weight loads";

/** From where weights are read here, the preferred place first. */
export function weightLoadVariants(gpu: Gpu): readonly ("texture" | "buffer")[] {
  return suitsTextures(gpu) ? ["texture", "buffer"] : ["buffer"];
}

/** The op of products by weights of a type, as the self-check names it. */
export function matmulOp(dtype: WeightType): string {
  return `matmul by ${dtype}`;
}

/**
 * Copies a stored matrix (N, K) to the GPU in the layouts its uses want.
 * @throws {RangeError} unless it is two sizes, multiples of 4, and as many bytes.
 */
export function uploadWeight(
  gpu: Gpu,
  label: string,
  stored: StoredMatrix,
  uses: readonly WeightUse[] = ["gathered", "multiplied"],
): Weight {
  const { dtype, shape, bytes } = stored;
  const [N, K] = shape;
  if (shape.length !== 2 || N % 4 !== 0 || K % 4 !== 0 || N < 4 || K < 4) {
    throw new RangeError(
      `Cannot use ${label} (${shape}) as a weight: it must be two sizes, multiples of 4`,
    );
  }
  const rowBytes = K * bytesPerElement[dtype];
  if (bytes.byteLength !== N * rowBytes) {
    throw new RangeError(
      `Cannot use ${label} (${shape}) ${dtype} as a weight: ` +
        `${bytes.byteLength} bytes found, ${N * rowBytes} wanted`,
    );
  }
  const { rows, texture } = gpu.scope(() => uploadLayouts(gpu, label, stored, uses));
  const sizeBytes = (texture?.texture.sizeBytes ?? 0) +
    rows.reduce((sum, { tensor }) => sum + tensor.sizeBytes, 0);
  return { label, shape: [N, K], dtype, rows, texture, sizeBytes };
}

function uploadLayouts(
  gpu: Gpu,
  label: string,
  stored: StoredMatrix,
  uses: readonly WeightUse[],
): Pick<Weight, "rows" | "texture"> {
  const rows = uses.includes("gathered") ? uploadRows(gpu, label, stored) : [];
  const texture = prefersTexture(gpu, stored.dtype) && uses.includes("multiplied")
    ? uploadTexture(gpu, label, stored)
    : null;
  if (texture || rows.length > 0) return { rows, texture };
  return { rows: uploadRows(gpu, label, stored), texture };
}

/** Destroys weights' buffers and textures after the GPU is done with them. */
export async function destroyWeight(gpu: Gpu, ...weights: Weight[]): Promise<void> {
  await gpu.destroy(
    ...weights.flatMap(({ rows, texture }) => [
      ...rows.map(({ tensor }) => tensor),
      ...(texture ? [texture.texture] : []),
    ]),
  );
}

function uploadRows(gpu: Gpu, label: string, { dtype, shape, bytes }: StoredMatrix): WeightRows[] {
  const [N, K] = shape;
  const rowBytes = K * bytesPerElement[dtype];
  return rowRanges(N, rowBytes, gpu.facts.limits.maxBindingBytes).map(([first, count]) => {
    const part = bytes.subarray(first * rowBytes, (first + count) * rowBytes);
    return { first, count, tensor: gpu.upload(label, part, [count, K], dtype) };
  });
}

/** Row ranges [first, count], near equal, of at most `limitBytes` each, multiples of 64 rows. */
function rowRanges(N: number, rowBytes: number, limitBytes: number): [number, number][] {
  if (N * rowBytes <= limitBytes) return [[0, N]];
  const most = Math.floor(limitBytes / rowBytes / 64) * 64;
  if (most === 0) {
    throw new RangeError(
      `Cannot split a weight of ${rowBytes} bytes a row: 64 rows pass the adapter's ` +
        `${limitBytes} bytes a binding`,
    );
  }
  const count = Math.ceil(N / Math.ceil(N / most) / 64) * 64;
  const ranges: [number, number][] = [];
  for (let first = 0; first < N; first += count) ranges.push([first, Math.min(count, N - first)]);
  return ranges;
}

/** How a matrix lies in a texture; null when it is too large for one of this adapter. */
export function textureSizes(
  gpu: Gpu,
  { dtype, shape: [N, K] }: MatrixSizes,
): Omit<WeightTexture, "texture"> | null {
  const paddedK = Math.ceil(K / texturePaddedColumns) * texturePaddedColumns;
  const texelsARow = paddedK * bytesPerElement[dtype] / 16;
  const rowBits = panelBits(N, texelsARow, gpu.facts.limits.maxTextureSize);
  return rowBits === null ? null : { rowBits, texelsARow };
}

function uploadTexture(
  gpu: Gpu,
  label: string,
  stored: StoredMatrix,
): WeightTexture | null {
  const { dtype, shape: [N, K], bytes } = stored;
  const sizes = textureSizes(gpu, stored);
  if (sizes === null) return null;
  const { rowBits, texelsARow } = sizes;
  const rowBytes = K * bytesPerElement[dtype];
  const height = Math.min(N, 2 ** rowBits);
  const panels = Math.ceil(N / height);
  const texture = gpu.texture(label, height, panels * texelsARow);
  for (let panel = 0; panel < panels; panel++) {
    const first = panel * height;
    const count = Math.min(height, N - first);
    const part = bytes.subarray(first * rowBytes, (first + count) * rowBytes);
    const padded = rowBytes === texelsARow * 16 ? part : padRows(part, rowBytes, texelsARow * 16);
    gpu.writeTexture(texture, panel * texelsARow, [count, texelsARow], padded);
  }
  return { texture, rowBits, texelsARow };
}

/** log2 of the rows a panel has: as many as fit, unless the last panel would be mostly padding. */
function panelBits(N: number, texelsARow: number, maxSize: number): number | null {
  let bits = Math.floor(Math.log2(maxSize));
  if (N <= 2 ** bits) return texelsARow <= maxSize ? bits : null;
  const width = (rowBits: number) => Math.ceil(N / 2 ** rowBits) * texelsARow;
  const waste = (rowBits: number) => Math.ceil(N / 2 ** rowBits) * 2 ** rowBits / N - 1;
  while (bits > 6 && waste(bits) > 0.02 && width(bits - 1) <= maxSize) bits--;
  return width(bits) <= maxSize ? bits : null;
}

function padRows(
  bytes: Uint8Array<ArrayBuffer>,
  rowBytes: number,
  paddedBytes: number,
): Uint8Array<ArrayBuffer> {
  const rows = bytes.byteLength / rowBytes;
  const padded = new Uint8Array(rows * paddedBytes);
  for (let row = 0; row < rows; row++) {
    padded.set(bytes.subarray(row * rowBytes, (row + 1) * rowBytes), row * paddedBytes);
  }
  return padded;
}
