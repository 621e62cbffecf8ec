// Kernels that read four floats at once bind whole groups of four, whatever a tensor's length. The
// buffer has room: the pool rounds sizes up. Such kernels write back what they found past the end.

import type { Tensor } from "./gpu/tensor.ts";

/** The tensor with its binding rounded up to 16 bytes. @throws {RangeError} when the buffer ends before. */
export function vec4View(tensor: Tensor): Tensor {
  const sizeBytes = Math.ceil(tensor.sizeBytes / 16) * 16;
  if (tensor.offsetBytes + sizeBytes > tensor.storage.sizeBytes) {
    throw new RangeError(
      `Cannot read ${tensor.label} by fours: its buffer ends ${tensor.storage.sizeBytes} bytes ` +
        `from its start, wanted ${tensor.offsetBytes + sizeBytes}`,
    );
  }
  return { ...tensor, sizeBytes };
}
