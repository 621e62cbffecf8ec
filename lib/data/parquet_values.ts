// Checks of what stands in a Parquet page, made before hyparquet decodes it: hyparquet believes the
// lengths of runs, blocks and values, so that ten damaged bytes can make it write billions of them or
// never end. https://parquet.apache.org/docs/file-format/data-pages/encodings/
// Left out: encodings that hyparquet does not read, which it refuses by name.

import type { ParquetType, SchemaElement } from "hyparquet";
import { deltaBinaryUnpack } from "hyparquet/src/delta.js";
import type { MemoryBudget } from "./memory_budget.ts";

/** A decimal is parsed digit by digit into a BigInt; Parquet's writers use 16 bytes at most. */
export const maxDecimalBytes = 32;
/** hyparquet unpacks numbers of up to 24 bits rightly. */
const maxIndexBits = 24;
/** Numbers that a run without bits may have too many; those with bits are bounded by their bytes. */
const maxFilledUp = 1024;

/** What one byte array takes on its way to a text, its bytes aside. */
const viewBytes = 160;

const fixedBytes: Partial<Record<ParquetType, number>> = {
  INT32: 4,
  INT64: 8,
  INT96: 12,
  FLOAT: 4,
  DOUBLE: 8,
};

/** Bytes [at, end) of a page; reading moves `at`. */
export interface Span {
  bytes: Uint8Array;
  at: number;
  end: number;
}

/** Bits that hold every number up to `max`. */
export const bitWidth = (max: number): number => 32 - Math.clz32(max);

/** A u32 in groups of 7 bits. */
function varint(span: Span): number {
  let value = 0;
  for (let shift = 0; shift < 35 && span.at < span.end; shift += 7) {
    const byte = span.bytes[span.at++];
    value += (byte & 0x7f) * 2 ** shift;
    if (byte < 0x80 && value < 2 ** 32) return value;
  }
  throw new Error("a page holds a number without an end");
}

/** A little-endian u32. */
function u32(span: Span): number {
  if (span.at + 4 > span.end) throw new Error("a page ends within a length");
  const { bytes, at } = span;
  span.at += 4;
  return (bytes[at] | bytes[at + 1] << 8 | bytes[at + 2] << 16 | bytes[at + 3] << 24) >>> 0;
}

/** The next `length` bytes. @throws {Error} when there are fewer. */
export function take(span: Span, length: number): Span {
  const at = span.at;
  if (!(length >= 0 && at + length <= span.end)) {
    throw new Error(`a page wants ${length} bytes where ${span.end - at} are left`);
  }
  span.at += length;
  return { bytes: span.bytes, at, end: span.at };
}

/** Bytes behind a length of 4 bytes: how version 1 stores levels and booleans. */
export const takePrefixed = (span: Span): Span => take(span, u32(span));

/**
 * Walks `count` numbers in runs of one number repeated and runs of packed bits ("RLE/bit-packing
 * hybrid"), `width` bits each; gives how many equal `max`.
 * @throws {Error} when they end early, a run goes past the last number, or a number is over `max`.
 */
export function checkRuns(span: Span, width: number, count: number, max: number): number {
  let seen = 0, atMax = 0;
  const check = (value: number, times: number) => {
    if (value > max) {
      throw new Error(`a page holds the level or index ${value}, the last is ${max}`);
    }
    if (value === max) atMax += times;
  };
  while (seen < count) {
    const head = varint(span), length = head >>> 1, left = count - seen;
    if (head % 2 === 0) {
      if (length > left) throw new Error(`a page repeats ${length} times what ${left} are left of`);
      const run = take(span, Math.ceil(width / 8));
      let value = 0;
      for (let at = run.end - 1; at >= run.at; at--) value = value * 256 + run.bytes[at];
      check(value, length);
      seen += length;
      continue;
    }
    // Groups of 8 numbers. Those past the last one fill up (DuckDB fills to 256), and may be cut off.
    const groups = length, numbers = Math.min(groups * 8, left);
    if (groups === 0 || width === 0 && groups * 8 > left + maxFilledUp) {
      throw new Error(`a page packs ${groups * 8} values where ${left} are left`);
    }
    const { bytes, at } = take(span, Math.min(groups * width, span.end - span.at));
    if (Math.ceil(numbers * width / 8) > span.at - at) throw new Error("a page ends within a run");
    for (let i = 0, bit = 0; i < numbers; i++, bit += width) {
      let value = 0;
      for (let b = 0; b < width;) {
        const place = (bit + b) % 8, bits = Math.min(8 - place, width - b);
        value += ((bytes[at + (bit + b >>> 3)] >>> place) & ((1 << bits) - 1)) * 2 ** b;
        b += bits;
      }
      check(value, 1);
    }
    seen += numbers;
  }
  return atMax;
}

/**
 * Walks the blocks of `count` integers stored as differences ("DELTA_BINARY_PACKED").
 * @throws {Error} when a block has sizes that no writer gives it, or goes past the end.
 */
function checkDeltas(span: Span, count: number): void {
  const blockSize = varint(span), blockParts = varint(span);
  const partSize = blockSize / blockParts;
  if (!(partSize > 0 && partSize % 8 === 0 && blockSize <= 2 ** 16)) {
    throw new Error(`a page has blocks of ${blockSize} differences in ${blockParts} parts`);
  }
  varint(span); // how many integers: hyparquet goes by the page's header
  skipLong(span); // the first integer
  for (let seen = 1; seen < count;) {
    skipLong(span); // the block's least difference
    const widths = take(span, blockParts);
    for (let part = 0; part < blockParts && seen < count; part++, seen += partSize) {
      const width = widths.bytes[widths.at + part];
      if (width > 64) throw new Error(`a page packs integers of ${width} bits`);
      take(span, partSize / 8 * width);
    }
  }
}

/** Skips an integer of up to 64 bits in groups of 7. */
function skipLong(span: Span): void {
  for (let i = 0; i < 10; i++) if (take(span, 1).bytes[span.at - 1] < 0x80) return;
  throw new Error("a page holds a number without an end");
}

/** `count` lengths stored as differences; none is negative. */
function lengths(span: Span, count: number): Int32Array {
  const { bytes, at, end } = span;
  checkDeltas(span, count);
  const values = new Int32Array(count);
  const view = new DataView(bytes.buffer, bytes.byteOffset, end);
  deltaBinaryUnpack({ view, offset: at }, count, values);
  const negative = values.find((length) => length < 0);
  if (negative !== undefined) throw new Error(`a page holds a value of ${negative} bytes`);
  return values;
}

/** What `checkValues` has to know beside the page. */
export interface ValueContext {
  element: SchemaElement;
  /** Values of the dictionary page before, where there is one. */
  dictionarySize?: number;
  /** Of the data page. */
  version: 1 | 2;
}

/**
 * Checks `count` values (nulls are not among them) of one page in [at, end).
 * @throws {Error} when they don't fit, or stand for more than the budget has left.
 */
export function checkValues(
  span: Span,
  encoding: string | undefined,
  count: number,
  { element, dictionarySize, version }: ValueContext,
  budget: MemoryBudget,
): void {
  const { type } = element;
  const isDecimal = element.converted_type === "DECIMAL";
  const checkLength = (bytes: number) => {
    if (isDecimal && bytes > maxDecimalBytes) throw new Error(`a decimal has ${bytes} bytes`);
    budget.spend(viewBytes);
  };
  if (encoding === "RLE_DICTIONARY" || encoding === "PLAIN_DICTIONARY") {
    if (dictionarySize === undefined) {
      throw new Error("a page points into a dictionary that is not there");
    }
    const width = take(span, 1).bytes[span.at - 1];
    if (width > maxIndexBits) throw new Error(`a page holds indices of ${width} bits`);
    // Indices without bits are all 0; in version 1 hyparquet does not look for runs then.
    if (width > 0 || version === 2) checkRuns(span, width, count, dictionarySize - 1);
    else if (count > 0 && dictionarySize === 0) {
      throw new Error("a page points past its dictionary");
    }
  } else if (encoding === "RLE" && type === "BOOLEAN") {
    checkRuns(takePrefixed(span), 1, count, 1);
  } else if (encoding === "PLAIN" && type === "BOOLEAN") {
    take(span, Math.ceil(count / 8));
  } else if (encoding === "PLAIN" && type === "BYTE_ARRAY") {
    for (let i = 0; i < count; i++) {
      const length = u32(span);
      take(span, length);
      checkLength(length);
    }
  } else if (encoding === "PLAIN" || encoding === "BYTE_STREAM_SPLIT") {
    const size = fixedBytes[type!] ?? element.type_length ?? 0;
    take(span, count * size);
    if (type === "FIXED_LEN_BYTE_ARRAY") { for (let i = 0; i < count; i++) checkLength(size); }
  } else if (count === 0) {
    return;
  } else if (encoding === "DELTA_BINARY_PACKED" && (type === "INT32" || type === "INT64")) {
    checkDeltas(span, count);
  } else if (encoding === "DELTA_LENGTH_BYTE_ARRAY" && type === "BYTE_ARRAY") {
    for (const length of lengths(span, count)) {
      take(span, length);
      checkLength(length);
    }
  } else if (encoding === "DELTA_BYTE_ARRAY" && type?.endsWith("BYTE_ARRAY")) {
    const prefixes = lengths(span, count), suffixes = lengths(span, count);
    for (let i = 0, length = 0; i < count; i++) {
      if (prefixes[i] > length) throw new Error("a page repeats more of a value than there is");
      length = prefixes[i] + suffixes[i];
      take(span, suffixes[i]);
      checkLength(length);
      budget.spend(length);
    }
  } else {
    throw new Error(`a page of ${type} values has the encoding ${encoding}, which is not read`);
  }
}
