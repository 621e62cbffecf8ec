// A tensor is a named range of a GPU buffer with a shape and a type. It owns nothing: buffers
// belong to the pool (buffers.ts) or to whoever allocated them.

export type DType = "f32" | "u32" | "i32" | "f16" | "bf16" | "u8";

/** A GPU buffer with a number that never comes again, so that caches can name it. */
export interface Storage {
  readonly id: number;
  readonly buffer: GPUBuffer;
  readonly sizeBytes: number;
}

/** f16, bf16 and u8 are packed into u32 words, lowest element in the lowest bits. */
export interface Tensor {
  readonly label: string;
  readonly shape: readonly number[];
  readonly dtype: DType;
  readonly storage: Storage;
  readonly offsetBytes: number;
  /** A multiple of 4; the last word may hold padding. */
  readonly sizeBytes: number;
}

/** A texture as a kernel input; `id` is from the same count as a storage's. */
export interface TextureBinding {
  readonly label: string;
  readonly id: number;
  readonly view: GPUTextureView;
}

/** A texture of texels of four u32 words, which its maker destroys. */
export interface Texture extends TextureBinding {
  readonly texture: GPUTexture;
  readonly sizeBytes: number;
}

export const bytesPerElement: Record<DType, number> = {
  f32: 4,
  u32: 4,
  i32: 4,
  f16: 2,
  bf16: 2,
  u8: 1,
};

/** Product of the sizes. */
export function elementCount(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

/** Bytes of a tensor, rounded up to whole words. */
export function tensorBytes(shape: readonly number[], dtype: DType): number {
  return Math.ceil(elementCount(shape) * bytesPerElement[dtype] / 4) * 4;
}

/**
 * Rows [first, first + count) of a tensor's first axis, without a copy.
 * @throws {RangeError} when the rows are not there or do not begin at `alignment` bytes.
 */
export function rows(tensor: Tensor, first: number, count: number, alignment = 256): Tensor {
  const rowBytes = elementCount(tensor.shape.slice(1)) * bytesPerElement[tensor.dtype];
  const offsetBytes = tensor.offsetBytes + first * rowBytes;
  if (first < 0 || count < 0 || first + count > tensor.shape[0]) {
    throw new RangeError(
      `Cannot view rows ${first} to ${first + count} of ${tensor.label}: it has ${tensor.shape[0]}`,
    );
  }
  if (offsetBytes % alignment !== 0) {
    throw new RangeError(
      `Cannot view ${tensor.label} from row ${first}: byte ${offsetBytes} is not a multiple of ${alignment}`,
    );
  }
  return {
    ...tensor,
    shape: [count, ...tensor.shape.slice(1)],
    offsetBytes,
    sizeBytes: Math.ceil(count * rowBytes / 4) * 4,
  };
}

/**
 * WebGPU refuses a dispatch that reads one buffer and writes another range of it, or the same, and
 * that ends the device; so it is asked before.
 * @throws {RangeError} when `output` lies in the buffer of an input.
 */
export function requireOwnBuffer(output: Tensor, ...inputs: Tensor[]): void {
  for (const { label, storage } of inputs) {
    if (storage !== output.storage) continue;
    throw new RangeError(
      `Cannot write ${output.label} into the buffer of ${label}, which the same dispatch reads: ` +
        "allocate a tensor for it",
    );
  }
}

/** The same range under another shape of as many elements. */
export function reshape(tensor: Tensor, shape: readonly number[]): Tensor {
  if (elementCount(shape) !== elementCount(tensor.shape)) {
    throw new RangeError(`Cannot view ${tensor.label} (${tensor.shape}) as (${shape})`);
  }
  return { ...tensor, shape };
}
