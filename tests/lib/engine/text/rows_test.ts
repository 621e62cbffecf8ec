// Samples cross in pieces of bounded size and arrive as they were.

import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import type { RenderedSample } from "../../../../lib/data/render.ts";
import { collectRows, memoryOf, rowsOf, samplesOf } from "../../../../lib/engine/text/rows.ts";

const sample = (length: number, promptLength: number): RenderedSample => ({
  tokens: Uint32Array.from({ length }, (_, i) => length * 7 + i),
  promptLength,
});

Deno.test("rows: pieces of at most a mebibyte, or one longer sample, in order", () => {
  const samples = [
    ...Array.from({ length: 5000 }, (_, i) => sample(i % 9, i % 3)),
    sample(200_000, 5),
    sample(200_000, 6),
    sample(300_000, 7),
    sample(1, 1),
  ];
  const { parts, onRows } = collectRows(2);
  let pieces = 0;
  for (const rows of rowsOf(1, samples)) {
    pieces++;
    assert(rows.tokens.length <= 2 ** 18 || rows.lengths.length === 1);
    const memory = memoryOf(rows);
    onRows(structuredClone(rows, { transfer: memory }));
    assert(memory.every(({ byteLength }) => byteLength === 0), "handed over, not copied");
  }
  assert(pieces >= 5);
  assertEquals(parts[0], []);
  assertEquals(parts[1], samples);
});

Deno.test("rows: what arrives looks into the piece", () => {
  const [rows] = rowsOf(0, [sample(3, 1), sample(2, 2)]);
  const [one, two] = samplesOf(rows);
  assertStrictEquals(one.tokens.buffer, rows.tokens.buffer);
  assertEquals([one.promptLength, [...two.tokens]], [1, [14, 15]]);
  assertEquals([...rowsOf(0, [])], []);
});
