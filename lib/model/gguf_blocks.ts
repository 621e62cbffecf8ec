// GGUF's block formats expanded to floats, exactly as `gguf.quants.dequantize` of llama.cpp's gguf-py.
// A block of 32 (or 256, the K formats) elements shares an f16 scale d and, for some, a minimum m:
//   Q4_0 d (q - 8)   Q4_1 d q + m   Q5_0 d (q - 16)   Q5_1 d q + m   Q8_0 d q
//   Q4_K, Q5_K d s q - m t with 6-bit s and t per 32 elements;   Q6_K d s (q - 32), s per 16 elements
// Products are exact in f64, so storing to f32 rounds once, as NumPy does. Left out: IQ, TQ, Q2_K, Q3_K.
// On the GPU they are f16, half the memory of f32, so a product is rounded once more, to 11 bits: NMSE 2e-8 to 5e-8
// against llama.cpp's f32 in every format (gguf_blocks_test.ts), where 4 to 8 bits are off from the original by
// 1e-5 to 1e-2. Small values lose nothing: all products are multiples of 2^-24, f16's smallest step.

import { InvalidFile } from "../errors.ts";
import { firstNonFinite, type FloatType } from "./floats.ts";

/** How one ggml type is stored. `expand` is null for plain floats. */
export interface BlockFormat {
  name: string;
  /** Elements of a block. */
  elements: number;
  /** Bytes of a block. */
  bytes: number;
  /** The dtype a tensor has after `expandTensor` (unless it overflows f16). */
  dtype: FloatType;
  expand: ((blocks: Uint8Array<ArrayBuffer>, out: Float32Array) => void) | null;
}

/** The formats read here, by ggml's type number. */
export const blockFormats: ReadonlyMap<number, BlockFormat> = new Map([
  [0, { name: "F32", elements: 1, bytes: 4, dtype: "f32", expand: null }],
  [1, { name: "F16", elements: 1, bytes: 2, dtype: "f16", expand: null }],
  [30, { name: "BF16", elements: 1, bytes: 2, dtype: "bf16", expand: null }],
  [2, { name: "Q4_0", elements: 32, bytes: 18, dtype: "f16", expand: expandQ4_0 }],
  [3, { name: "Q4_1", elements: 32, bytes: 20, dtype: "f16", expand: expandQ4_1 }],
  [6, { name: "Q5_0", elements: 32, bytes: 22, dtype: "f16", expand: expandQ5_0 }],
  [7, { name: "Q5_1", elements: 32, bytes: 24, dtype: "f16", expand: expandQ5_1 }],
  [8, { name: "Q8_0", elements: 32, bytes: 34, dtype: "f16", expand: expandQ8_0 }],
  [12, { name: "Q4_K", elements: 256, bytes: 144, dtype: "f16", expand: expandQ4_K }],
  [13, { name: "Q5_K", elements: 256, bytes: 176, dtype: "f16", expand: expandQ5_K }],
  [14, { name: "Q6_K", elements: 256, bytes: 210, dtype: "f16", expand: expandQ6_K }],
]);

/**
 * A tensor's stored bytes as floats: plain floats as they are; blocks rounded to f16 (see above), or as f32
 * where a value is too large for f16.
 * @throws {InvalidFile} when the bytes are no whole number of blocks
 */
export function expandTensor(
  format: BlockFormat,
  stored: Uint8Array<ArrayBuffer>,
): { dtype: FloatType; bytes: Uint8Array<ArrayBuffer> } {
  if (!format.expand) return { dtype: format.dtype, bytes: stored };
  const blocks = stored.byteLength / format.bytes;
  if (!Number.isInteger(blocks)) {
    throw new InvalidFile(
      `Cannot expand ${stored.byteLength} bytes of ${format.name}: blocks have ${format.bytes} bytes`,
    );
  }
  // Pieces that stay in the cache, so the f32 form of a whole embedding never exists.
  const pieceBlocks = 16384 / format.elements;
  const halves = new Float16Array(blocks * format.elements);
  const piece = new Float32Array(pieceBlocks * format.elements);
  for (let block = 0; block < blocks; block += pieceBlocks) {
    const count = Math.min(pieceBlocks, blocks - block);
    const floats = piece.subarray(0, count * format.elements);
    format.expand(stored.subarray(block * format.bytes, (block + count) * format.bytes), floats);
    halves.set(floats, block * format.elements);
  }
  const bytes = new Uint8Array(halves.buffer);
  if (firstNonFinite("f16", bytes) < 0) return { dtype: "f16", bytes };
  const floats = new Float32Array(blocks * format.elements);
  format.expand(stored, floats);
  return { dtype: "f32", bytes: new Uint8Array(floats.buffer) };
}

/** The blocks' f16 numbers; every block format has an even number of bytes. */
function halvesOf(blocks: Uint8Array<ArrayBuffer>): Float16Array {
  return new Float16Array(blocks.buffer, blocks.byteOffset, blocks.byteLength / 2);
}

function expandQ4_0(blocks: Uint8Array<ArrayBuffer>, out: Float32Array): void {
  const halves = halvesOf(blocks);
  for (let at = 0, o = 0; o < out.length; at += 18, o += 32) {
    const d = halves[at >> 1];
    for (let i = 0; i < 16; i++) {
      const q = blocks[at + 2 + i];
      out[o + i] = d * ((q & 15) - 8);
      out[o + 16 + i] = d * ((q >> 4) - 8);
    }
  }
}

function expandQ4_1(blocks: Uint8Array<ArrayBuffer>, out: Float32Array): void {
  const halves = halvesOf(blocks);
  for (let at = 0, o = 0; o < out.length; at += 20, o += 32) {
    const d = halves[at >> 1];
    const m = halves[(at >> 1) + 1];
    for (let i = 0; i < 16; i++) {
      const q = blocks[at + 4 + i];
      out[o + i] = d * (q & 15) + m;
      out[o + 16 + i] = d * (q >> 4) + m;
    }
  }
}

/** The fifth bits of a Q5 block, one per element. */
function highBits(blocks: Uint8Array, at: number): number {
  return blocks[at] | (blocks[at + 1] << 8) | (blocks[at + 2] << 16) | (blocks[at + 3] << 24);
}

function expandQ5_0(blocks: Uint8Array<ArrayBuffer>, out: Float32Array): void {
  const halves = halvesOf(blocks);
  for (let at = 0, o = 0; o < out.length; at += 22, o += 32) {
    const d = halves[at >> 1];
    const high = highBits(blocks, at + 2);
    for (let i = 0; i < 16; i++) {
      const q = blocks[at + 6 + i];
      out[o + i] = d * (((q & 15) | (((high >>> i) & 1) << 4)) - 16);
      out[o + 16 + i] = d * (((q >> 4) | (((high >>> (i + 16)) & 1) << 4)) - 16);
    }
  }
}

function expandQ5_1(blocks: Uint8Array<ArrayBuffer>, out: Float32Array): void {
  const halves = halvesOf(blocks);
  for (let at = 0, o = 0; o < out.length; at += 24, o += 32) {
    const d = halves[at >> 1];
    const m = halves[(at >> 1) + 1];
    const high = highBits(blocks, at + 4);
    for (let i = 0; i < 16; i++) {
      const q = blocks[at + 8 + i];
      out[o + i] = d * ((q & 15) | (((high >>> i) & 1) << 4)) + m;
      out[o + 16 + i] = d * ((q >> 4) | (((high >>> (i + 16)) & 1) << 4)) + m;
    }
  }
}

function expandQ8_0(blocks: Uint8Array<ArrayBuffer>, out: Float32Array): void {
  const halves = halvesOf(blocks);
  const signed = new Int8Array(blocks.buffer, blocks.byteOffset, blocks.byteLength);
  for (let at = 0, o = 0; o < out.length; at += 34, o += 32) {
    const d = halves[at >> 1];
    for (let i = 0; i < 32; i++) out[o + i] = d * signed[at + 2 + i];
  }
}

/** Six-bit scale (`offset` 0) or minimum (`offset` 4) of sub-block j, packed in 12 bytes at `at`. */
function sixBits(blocks: Uint8Array, at: number, offset: 0 | 4, j: number): number {
  if (j < 4) return blocks[at + offset + j] & 63;
  const low = offset === 0 ? blocks[at + 4 + j] & 15 : blocks[at + 4 + j] >> 4;
  return low | ((blocks[at + offset + j - 4] >> 2) & 0x30);
}

function expandQ4_K(blocks: Uint8Array<ArrayBuffer>, out: Float32Array): void {
  const halves = halvesOf(blocks);
  for (let at = 0, o = 0; o < out.length; at += 144, o += 256) {
    for (let j = 0; j < 8; j++) {
      const d = halves[at >> 1] * sixBits(blocks, at + 4, 0, j);
      const m = halves[(at >> 1) + 1] * sixBits(blocks, at + 4, 4, j);
      const codes = at + 16 + (j >> 1) * 32;
      const shift = (j & 1) * 4;
      for (let i = 0; i < 32; i++) {
        out[o + j * 32 + i] = d * ((blocks[codes + i] >> shift) & 15) - m;
      }
    }
  }
}

function expandQ5_K(blocks: Uint8Array<ArrayBuffer>, out: Float32Array): void {
  const halves = halvesOf(blocks);
  for (let at = 0, o = 0; o < out.length; at += 176, o += 256) {
    for (let j = 0; j < 8; j++) {
      const d = halves[at >> 1] * sixBits(blocks, at + 4, 0, j);
      const m = halves[(at >> 1) + 1] * sixBits(blocks, at + 4, 4, j);
      const codes = at + 48 + (j >> 1) * 32;
      const shift = (j & 1) * 4;
      for (let i = 0; i < 32; i++) {
        const high = ((blocks[at + 16 + i] >> j) & 1) << 4;
        out[o + j * 32 + i] = d * (((blocks[codes + i] >> shift) & 15) | high) - m;
      }
    }
  }
}

function expandQ6_K(blocks: Uint8Array<ArrayBuffer>, out: Float32Array): void {
  const halves = halvesOf(blocks);
  const signed = new Int8Array(blocks.buffer, blocks.byteOffset, blocks.byteLength);
  for (let at = 0, o = 0; o < out.length; at += 210, o += 256) {
    const d = halves[(at + 208) >> 1];
    // Runs of 32 elements: j / 4 is the half, j % 4 the position of its bits.
    for (let j = 0; j < 8; j++) {
      const half = j >> 2;
      const low = at + half * 64 + (j & 1) * 32;
      const shift = (j & 2) * 2;
      const high = at + 128 + half * 32;
      const highShift = (j & 3) * 2;
      for (let i = 0; i < 32; i++) {
        const q = ((blocks[low + i] >> shift) & 15) | (((blocks[high + i] >> highShift) & 3) << 4);
        out[o + j * 32 + i] = d * signed[at + 192 + j * 2 + (i >> 4)] * (q - 32);
      }
    }
  }
}
