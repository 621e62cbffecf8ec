import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { readRleBitPackedHybrid } from "hyparquet/src/encoding.js";
import { MemoryBudget } from "../../../lib/data/memory_budget.ts";
import { bitWidth, checkRuns, checkValues, type Span } from "../../../lib/data/parquet_values.ts";
import { assertThrows } from "../../asserts.ts";

const spanOf = (...bytes: number[]): Span => ({
  bytes: Uint8Array.from(bytes),
  at: 0,
  end: bytes.length,
});

/** A number in groups of 7 bits, the last one first. */
function varint(value: number): number[] {
  const bytes = [];
  for (; value >= 128; value = Math.floor(value / 128)) bytes.push(value % 128 + 128);
  return [...bytes, value];
}

/** Numbers as runs: `packed` ones by their bits in groups of 8, others repeated. */
function encodeRuns(runs: { packed: boolean; values: number[] }[], width: number): number[] {
  return runs.flatMap(({ packed, values }) => {
    if (!packed) {
      const value = values[0];
      const bytes = Array.from({ length: Math.ceil(width / 8) }, (_, b) => value >> 8 * b & 255);
      return [...varint(2 * values.length), ...bytes];
    }
    const bits = values.flatMap((value) => Array.from({ length: width }, (_, b) => value >> b & 1));
    const bytes = Array.from(
      { length: bits.length / 8 },
      (_, i) => bits.slice(8 * i, 8 * i + 8).reduce((sum, bit, b) => sum + (bit << b), 0),
    );
    return [...varint(values.length / 8 * 2 + 1), ...bytes];
  });
}

Deno.test("parquet_values: runs are counted as hyparquet reads them", () => {
  const runOf = (max: number) => {
    const value = fc.integer({ min: 0, max });
    return fc.oneof(
      fc.tuple(value, fc.integer({ min: 1, max: 300 }))
        .map(([one, times]) => ({ packed: false, values: new Array<number>(times).fill(one) })),
      fc.integer({ min: 1, max: 4 })
        .chain((groups) => fc.array(value, { minLength: 8 * groups, maxLength: 8 * groups }))
        .map((values) => ({ packed: true, values })),
    );
  };
  fc.assert(fc.property(
    fc.integer({ min: 1, max: 2 ** 20 })
      .chain((max) => fc.tuple(fc.constant(max), fc.array(runOf(max), { minLength: 1 }))),
    fc.integer({ min: 0, max: 7 }),
    ([max, runs], dropped) => {
      const width = bitWidth(max);
      const wanted = runs.flatMap(({ values }) => values);
      // What a last packed run fills up is no value.
      const fill = runs.at(-1)!.packed ? dropped : 0;
      const count = wanted.length - fill;
      const bytes = encodeRuns(runs, width);
      const atMax = checkRuns(spanOf(...bytes), width, count, max);
      assertEquals(atMax, wanted.slice(0, count).filter((value) => value === max).length);
      const read = new Array<number>(count);
      const view = new DataView(Uint8Array.from(bytes).buffer);
      readRleBitPackedHybrid({ view, offset: 0 }, width, read, bytes.length);
      assertEquals(read, wanted.slice(0, count));
    },
  ));
});

for (
  const [name, bytes, width, message] of [
    ["a value repeated past the last", [...varint(2 * 101), 1], 1, /repeats 101 times/],
    ["a value repeated billions of times", [...varint(2 ** 32 - 2), 1], 1, /repeats 2147483647/],
    ["packed groups by the billion, without bits", varint(2 ** 32 - 1), 0, /packs 17179869176/],
    ["no packed groups", varint(1), 1, /packs 0 values/],
    ["a packed run cut off", [...varint(13 * 2 + 1), 1, 1], 1, /ends within a run/],
    ["a value that is too large", [...varint(200), 2], 2, /level or index 2, the last is 1/],
    ["a number without an end", [255, 255, 255, 255, 255, 255], 1, /without an end/],
    ["nothing", [], 1, /without an end/],
  ] as const
) {
  Deno.test(`parquet_values: runs are refused: ${name}`, () => {
    assertThrows(() => checkRuns(spanOf(...bytes), width, 100, 1), message);
  });
}

const text = { name: "a", type: "BYTE_ARRAY" } as const;
const zigzag = (value: number) => varint(value < 0 ? -2 * value - 1 : 2 * value);
/** Two integers as a block of 128 differences in 4 parts. */
const deltas = (first: number, second: number) => [
  ...varint(128),
  4,
  2,
  ...zigzag(first),
  ...zigzag(second - first),
  ...[0, 0, 0, 0],
];

for (
  const [name, encoding, bytes, element, message] of [
    ["a text past the end", "PLAIN", [9, 0, 0, 0, 97], text, /wants 9 bytes where 1 are left/],
    ["too few numbers", "PLAIN", [1, 2, 3], { name: "a", type: "INT32" }, /wants 8 bytes/],
    ["indices without a dictionary", "RLE_DICTIONARY", [1, 4, 0], text, /dictionary that is not/],
    [
      "a decimal of 100 bytes",
      "PLAIN",
      [100, 0, 0, 0, ...new Uint8Array(104)],
      { ...text, converted_type: "DECIMAL" },
      /decimal has 100 bytes/,
    ],
    [
      // hyparquet goes back by such a block and reads it for ever.
      "blocks of a negative size",
      "DELTA_BINARY_PACKED",
      [...varint(2 ** 32 - 128), 4, 2, 0, 0, 8, 0, 0, 0],
      { name: "a", type: "INT32" },
      /blocks of 4294967168 differences/,
    ],
    [
      "blocks in no parts",
      "DELTA_BINARY_PACKED",
      [...varint(128), 0, 2, 0, 0],
      { name: "a", type: "INT64" },
      /blocks of 128 differences in 0 parts/,
    ],
    ["lengths past the end", "DELTA_LENGTH_BYTE_ARRAY", [...deltas(1, 1), 97], text, /wants 1 b/],
    [
      "a negative length",
      "DELTA_LENGTH_BYTE_ARRAY",
      deltas(-1, -1),
      text,
      /a value of -1 bytes/,
    ],
    [
      "more repeated than there is",
      "DELTA_BYTE_ARRAY",
      [...deltas(0, 2), ...deltas(1, 1), 97, 98],
      text,
      /repeats more of a value than there is/,
    ],
    ["an encoding of another type", "DELTA_BINARY_PACKED", [0], text, /which is not read/],
    ["an unknown encoding", undefined, [0], text, /encoding undefined, which is not read/],
  ] as const
) {
  Deno.test(`parquet_values: values are refused: ${name}`, () => {
    const budget = new MemoryBudget(2 ** 20, () => new Error("too much"));
    assertThrows(
      () => checkValues(spanOf(...bytes), encoding, 2, { element, version: 1 }, budget),
      message,
    );
  });
}

Deno.test("parquet_values: a text that repeats the one before is spent before it is made", () => {
  const length = 10_000;
  // The second repeats the whole first one and adds nothing.
  const bytes = [...deltas(0, length), ...deltas(length, 0), ...new Uint8Array(length)];
  const check = (limitBytes: number) =>
    checkValues(
      spanOf(...bytes),
      "DELTA_BYTE_ARRAY",
      2,
      { element: text, version: 1 },
      new MemoryBudget(limitBytes, () => new Error("too much")),
    );
  check(2 * length + 1000);
  assertThrows(() => check(2 * length - 1), /too much/);
});
