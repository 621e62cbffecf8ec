// A frozen matrix on the GPU in the type it was stored in: (N, K) = (outputs, inputs), row-major,
// 16-bit types two to a u32 word. It lies in several buffers where one would pass the largest
// binding of the adapter. Expanded to f32 only inside the kernels that read it (matmul.ts).

import type { Gpu } from "./gpu/gpu.ts";
import { bytesPerElement, type Tensor } from "./gpu/tensor.ts";

export type WeightType = "f32" | "f16" | "bf16";

/** Rows [first, first + count) of a weight in a tensor (count, K) of its own. */
export interface WeightRows {
  readonly first: number;
  readonly count: number;
  readonly tensor: Tensor;
}

export interface Weight {
  readonly label: string;
  /** (N, K): outputs, inputs. */
  readonly shape: readonly [number, number];
  readonly dtype: WeightType;
  /** In order, without gaps; every `first` is a multiple of 64. */
  readonly rows: readonly WeightRows[];
  /** Bytes on the GPU, all layouts. */
  readonly sizeBytes: number;
}

/** A matrix as a file holds it: row-major, little-endian. */
export interface StoredMatrix {
  readonly dtype: WeightType;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/**
 * Copies a stored matrix (N, K) to the GPU.
 * @throws {RangeError} unless it is two sizes, multiples of 4, and as many bytes.
 */
export function uploadWeight(gpu: Gpu, label: string, stored: StoredMatrix): Weight {
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
  const rows = rowRanges(N, rowBytes, gpu.facts.limits.maxBindingBytes).map(([first, count]) => {
    const part = bytes.subarray(first * rowBytes, (first + count) * rowBytes);
    return { first, count, tensor: gpu.upload(label, part, [count, K], dtype) };
  });
  return { label, shape: [N, K], dtype, rows, sizeBytes: bytes.byteLength };
}

/** Destroys a weight's buffers after the GPU is done with them. */
export async function destroyWeight(gpu: Gpu, weight: Weight): Promise<void> {
  await gpu.destroy(...weight.rows.map(({ tensor }) => tensor));
}

/** Row ranges [first, count], near equal, of at most `limitBytes` each, multiples of 64 rows. */
function rowRanges(N: number, rowBytes: number, limitBytes: number): [number, number][] {
  const ranges = Math.ceil(N * rowBytes / limitBytes);
  const most = Math.floor(limitBytes / rowBytes / 64) * 64;
  const count = Math.min(most, Math.ceil(N / ranges / 64) * 64);
  if (count === 0) {
    throw new RangeError(
      `Cannot split a weight of ${rowBytes} bytes a row: 64 rows pass the adapter's ` +
        `${limitBytes} bytes a binding`,
    );
  }
  const result: [number, number][] = [];
  for (let first = 0; first < N; first += count) result.push([first, Math.min(count, N - first)]);
  return result;
}
