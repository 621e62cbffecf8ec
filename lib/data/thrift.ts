// A walk over one struct in Thrift's compact protocol, the form of Parquet's footer and page headers:
// every length and count must fit the bytes that are left, before hyparquet allocates by it.
// https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
// Left out: sets, maps and UUIDs, which Parquet does not use.

import type { MemoryBudget } from "./memory_budget.ts";

const stop = 0, trueType = 1, falseType = 2, byteType = 3, i16 = 4, i64 = 6, doubleType = 7;
const binary = 8, list = 9, struct = 12;
const maxDepth = 16;
/** What a field or a list's element takes once it is an object's member. */
const itemBytes = 64;

/**
 * Walks the struct that begins at `start`; gives the offset of the byte after it.
 * @throws {Error} when it does not end inside of `bytes`, holds other types or nests too deep.
 */
export function structEnd(bytes: Uint8Array, start: number, budget: MemoryBudget): number {
  let at = start;

  function skip(count: number): void {
    at += count;
    if (at > bytes.length) throw new Error("a header does not end where its bytes end");
  }

  function byte(): number {
    skip(1);
    return bytes[at - 1];
  }

  /** An unsigned number of up to 64 bits; only counts, which are small, are used. */
  function varint(maxBytes: number): number {
    let value = 0;
    for (let i = 0; i < maxBytes; i++) {
      const next = byte();
      value += (next & 0x7f) * 2 ** (7 * i);
      if (next < 0x80) return value;
    }
    throw new Error("a header holds a number without an end");
  }

  function element(type: number, depth: number): void {
    if (type === byteType) skip(1);
    else if (type >= i16 && type <= i64) varint(10);
    else if (type === doubleType) skip(8);
    else if (type === binary) skip(varint(5));
    else if (type === list) listOf(depth + 1);
    else if (type === struct) fields(depth + 1);
    else throw new Error(`a header holds a value of type ${type}`);
  }

  function listOf(depth: number): void {
    const head = byte();
    const type = head & 0x0f;
    const count = head >> 4 === 15 ? varint(5) : head >> 4;
    // An element takes a byte at least, a boolean too.
    if (count > bytes.length - at) throw new Error(`a header holds a list of ${count} elements`);
    budget.spend(count * itemBytes);
    for (let i = 0; i < count; i++) {
      if (type === trueType || type === falseType) skip(1);
      else element(type, depth);
    }
  }

  function fields(depth: number): void {
    if (depth > maxDepth) throw new Error("a header nests too deep");
    for (let head = byte(); head !== stop; head = byte()) {
      const type = head & 0x0f;
      // hyparquet ends a struct at any head whose type is 0, Thrift at a head of 0.
      if (type === stop) throw new Error("a header holds a field without a type");
      if (head >> 4 === 0) varint(3);
      budget.spend(itemBytes);
      if (type !== trueType && type !== falseType) element(type, depth);
    }
  }

  fields(0);
  return at;
}
