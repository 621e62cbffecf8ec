import { assert, assertEquals } from "@std/assert";
import { brotliCompressSync, gzipSync, zstdCompressSync } from "node:zlib";
import { decompress } from "../../../lib/data/parquet_codecs.ts";
import { assertThrows } from "../../asserts.ts";

const page = Uint8Array.from({ length: 5000 }, (_, i) => i * i >> 5);
const compressed = {
  GZIP: gzipSync(page),
  BROTLI: brotliCompressSync(page),
  ZSTD: zstdCompressSync(page),
} as const;

for (const codec of ["GZIP", "BROTLI", "ZSTD"] as const) {
  Deno.test(`parquet_codecs: ${codec} gives the stated size or nothing`, () => {
    const packed = compressed[codec];
    // As a part of a larger buffer, the way a column chunk holds it.
    const chunk = new Uint8Array(packed.length + 20).fill(7);
    chunk.set(packed, 10);
    const body = chunk.subarray(10, 10 + packed.length);
    assertEquals(Uint8Array.from(decompress(codec, body, page.length)), page);
    assertThrows(() => decompress(codec, body, page.length - 1));
    assertThrows(() => decompress(codec, body, page.length + 1), /unpacks to 5000 bytes/);
    assertThrows(() => decompress(codec, body.subarray(0, packed.length >> 1), page.length));
    assertEquals(decompress(codec, new Uint8Array(0), 0).length, 0);
  });
}

Deno.test("parquet_codecs: what unpacks to more than is stated is not unpacked", () => {
  const zeros = new Uint8Array(200_000_000);
  const bombs = { GZIP: gzipSync(zeros, { level: 1 }), ZSTD: zstdCompressSync(zeros) } as const;
  for (const codec of ["GZIP", "ZSTD"] as const) {
    const begin = performance.now();
    assertThrows(() => decompress(codec, bombs[codec], 1000));
    const ms = performance.now() - begin;
    assert(ms < 50, `${codec} took ${ms} ms`);
  }
});

Deno.test("parquet_codecs: LZ4 with and without Hadoop's frames", () => {
  // Two literals, then the whole as one block.
  const block = Uint8Array.of(0x20, 97, 98);
  const wanted = Uint8Array.of(97, 98);
  assertEquals(decompress("LZ4_RAW", block, 2), wanted);
  assertEquals(decompress("LZ4", block, 2), wanted);
  const framed = Uint8Array.of(0, 0, 0, 2, 0, 0, 0, 3, ...block);
  assertEquals(decompress("LZ4", framed, 2), wanted);
});

Deno.test("parquet_codecs: a frame of LZ4 that says it is negative ends", () => {
  // The library's reader would go back by 8 bytes and read the same frame for ever.
  const backwards = Uint8Array.of(0, 0, 0, 0, 255, 255, 255, 248, ...new Uint8Array(16));
  assertThrows(() => decompress("LZ4", backwards, 2));
});

Deno.test("parquet_codecs: a codec that is not there is named", () => {
  assertThrows(() => decompress("LZO", page, 1), /its codec LZO is not supported/);
});
