import { assert, assertEquals } from "@std/assert";
import { createHash } from "node:crypto";
import { type BlockFormat, blockFormats, expandTensor } from "../../../lib/model/gguf_blocks.ts";
import { toFloat32 } from "../../../lib/model/floats.ts";
import { InvalidFile } from "../../../lib/errors.ts";
import { assertThrows } from "../../asserts.ts";
import { nmse } from "../../gpu.ts";

const formats = new Map([...blockFormats.values()].map((format) => [format.name, format]));

function formatOf(name: string): BlockFormat {
  const format = formats.get(name);
  assert(format, `no format ${name}`);
  return format;
}

function expanded(name: string, bytes: Uint8Array<ArrayBuffer>): number[] {
  const format = formatOf(name);
  const out = new Float32Array(bytes.length / format.bytes * format.elements);
  format.expand!(bytes, out);
  return [...out];
}

/** The two bytes of an f16. */
const half = (x: number) => [...new Uint8Array(Float16Array.of(x).buffer)];
const range = (count: number) => Array.from({ length: count }, (_, i) => i);

Deno.test("gguf blocks: values by hand", () => {
  // Byte i holds code i in its low half and 15 - i in its high half.
  const codes = range(16).map((i) => i | ((15 - i) << 4));
  assertEquals(
    expanded("Q4_0", Uint8Array.from([...half(0.5), ...codes])),
    [...range(16).map((i) => 0.5 * (i - 8)), ...range(16).map((i) => 0.5 * (7 - i))],
  );
  assertEquals(
    expanded("Q4_1", Uint8Array.from([...half(0.5), ...half(-1), ...codes])),
    [...range(16).map((i) => 0.5 * i - 1), ...range(16).map((i) => 0.5 * (15 - i) - 1)],
  );
  assertEquals(
    expanded(
      "Q8_0",
      Uint8Array.from([...half(0.25), ...range(32).map((i) => (i * 8 - 128) & 255)]),
    ),
    range(32).map((i) => 0.25 * (i * 8 - 128)),
  );
  // The fifth bits: set for elements 0 and 31 only.
  const high = [1, 0, 0, 0x80];
  assertEquals(
    expanded("Q5_0", Uint8Array.from([...half(1), ...high, ...codes])),
    [0, ...range(15).map((i) => i - 15), ...range(15).map((i) => -1 - i), 0],
  );
  assertEquals(
    expanded("Q5_1", Uint8Array.from([...half(1), ...half(2), ...high, ...codes])),
    [18, ...range(15).map((i) => i + 3), ...range(15).map((i) => 17 - i), 18],
  );
});

Deno.test("gguf blocks: Q6_K by hand", () => {
  // ggml's packing of a half of 128 codes: four runs of 32 share 64 low and 32 high bytes.
  const code = range(256).map((i) => (i * 37 + 11) % 64);
  const low = new Array(128).fill(0);
  const high = new Array(64).fill(0);
  for (const h of [0, 1]) {
    for (let l = 0; l < 32; l++) {
      const [q1, q2, q3, q4] = [0, 32, 64, 96].map((run) => code[h * 128 + run + l]);
      low[h * 64 + l] = (q1 & 15) | ((q3 & 15) << 4);
      low[h * 64 + 32 + l] = (q2 & 15) | ((q4 & 15) << 4);
      high[h * 32 + l] = (q1 >> 4) | ((q2 >> 4) << 2) | ((q3 >> 4) << 4) | ((q4 >> 4) << 6);
    }
  }
  const scales = range(16).map((i) => i * 5 - 40);
  const bytes = Uint8Array.from([...low, ...high, ...scales.map((s) => s & 255), ...half(0.125)]);
  const wanted = range(256).map((i) => 0.125 * scales[i >> 4] * (code[i] - 32));
  assert(expanded("Q6_K", bytes).every((x, i) => x === wanted[i]));
});

// SHA-256 of the f32 bytes that gguf-py 0.19's `gguf.quants.dequantize` makes of `randomBlocks`.
const digests: Record<string, string> = {
  Q4_0: "253a01ec867ae1cbd0862541b75825004404ced373a17dc03f14d4013587ea6e",
  Q4_1: "dc9164f8e868fd5ad62d849e62caf055bfaed152eec00bf6f92f043da1c54822",
  Q5_0: "974117a7bad657855f7e9266ed2da4a775d0531b75919e6dbdfb20844d6c20e4",
  Q5_1: "9aaef4cf8bde97d39a54a01cb4176a07cfa40117e9f6f6a69e8c1a07a549896f",
  Q8_0: "3107d0ffb9af12961435c041ccd586565ee1cff9450e45099f3ad6c6d2e1d5f4",
  Q4_K: "4bc187118af3c2d83131d39c98bd870e909a5fac2a542c404e4d64c3fdcec783",
  Q5_K: "656def91ff9257ddb64661a23428efeb3acfaa44cb86e9641f5e2ce5c3591795",
  Q6_K: "1eec831a9bfaffead7eeed8eea8106e1f0407421a2188c95a2b5e3f21ccb9a8e",
};

/** 64 blocks of xorshift32's high bytes, with scales (f16 at `halves`) kept below 2. */
function randomBlocks(blockBytes: number, halves: number[]): Uint8Array<ArrayBuffer> {
  let x = 2463534242;
  const bytes = Uint8Array.from({ length: 64 * blockBytes }, () => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return x >>> 24;
  });
  for (let block = 0; block < 64; block++) {
    for (const at of halves) bytes[block * blockBytes + at + 1] &= 0xbf;
  }
  return bytes;
}

Deno.test("gguf blocks: random blocks expand bit for bit as in gguf-py", () => {
  for (const [name, digest] of Object.entries(digests)) {
    const format = formatOf(name);
    const halves = name === "Q6_K" ? [208] : /1$|[45]_K/.test(name) ? [0, 2] : [0];
    const floats = Float32Array.from(expanded(name, randomBlocks(format.bytes, halves)));
    const found = createHash("sha256").update(new Uint8Array(floats.buffer)).digest("hex");
    assertEquals(found, digest, name);
  }
});

Deno.test("gguf blocks: a tensor becomes f16, or f32 where a value is too large for f16", () => {
  // More blocks than one piece, so the seams are crossed.
  const blocks = 1500;
  const bytes = new Uint8Array(blocks * 34);
  for (let block = 0; block < blocks; block++) {
    bytes.set(half(block / 1024), block * 34);
    bytes.fill(3, block * 34 + 2, block * 34 + 34);
  }
  const small = expandTensor(formatOf("Q8_0"), bytes);
  assertEquals(small.dtype, "f16");
  const values = toFloat32(small);
  assertEquals(values.length, blocks * 32);
  assert(values.every((x, i) => x === Math.f16round(3 * Math.f16round((i >> 5) / 1024))));
  bytes.set(half(60000), 34);
  const large = expandTensor(formatOf("Q8_0"), bytes);
  assertEquals(large.dtype, "f32");
  assertEquals(toFloat32(large)[32], 3 * 60000);
  assertThrows(() => expandTensor(formatOf("Q8_0"), new Uint8Array(33)), InvalidFile);
});

Deno.test("gguf blocks: rounding to f16 costs an NMSE below 1e-7, however small the scales", () => {
  let state = 1;
  const random = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
  for (const format of formats.values()) {
    if (!format.expand) continue;
    for (const scale of [10, 0.01, 2e-5, 1e-6]) {
      const bytes = Uint8Array.from({ length: 200 * format.bytes }, () => random() * 256);
      const halves = new Float16Array(bytes.buffer);
      for (let block = 0; block < 200; block++) {
        // Q6_K has its scale at the end, the others at the start, some with a minimum behind it.
        const at = block * format.bytes / 2;
        const d = scale * (0.5 + random());
        if (format.name === "Q6_K") halves[at + 104] = d;
        else halves.set(/(_1|4_K|5_K)$/.test(format.name) ? [d, 4 * d] : [d], at);
      }
      const { dtype, bytes: expandedBytes } = expandTensor(format, bytes);
      const error = nmse(
        toFloat32({ dtype, bytes: expandedBytes }),
        expanded(format.name, bytes),
      );
      assert(error < 1e-7, `${format.name} with scales of ${scale}: ${error}`);
    }
  }
});
