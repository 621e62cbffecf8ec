import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import {
  pack,
  planBatches,
  randomStream,
  shuffledOrder,
  xoshiro128,
} from "../../../lib/data/pack.ts";

Deno.test("pack: two samples by hand", () => {
  const batch = pack([
    { tokens: Uint32Array.of(5, 6, 7, 8), promptLength: 2 },
    { tokens: Uint32Array.of(9, 4, 3), promptLength: 1 },
  ]);
  assertEquals(batch, {
    tokens: Uint32Array.of(5, 6, 7, 8, 9, 4, 3),
    positions: Uint32Array.of(0, 1, 2, 3, 0, 1, 2),
    segmentOf: Uint32Array.of(0, 0, 0, 0, 1, 1, 1),
    segmentStarts: Uint32Array.of(0, 4, 7),
    targets: Uint32Array.of(6, 7, 8, 0, 4, 3, 0),
    lossPositions: Uint32Array.of(1, 2, 4, 5),
    lossTargets: Uint32Array.of(7, 8, 4, 3),
    lossSegments: Uint32Array.of(0, 0, 1, 1),
  });
});

const segments = fc.array(
  fc.uint32Array({ min: 0, max: 99, minLength: 1, maxLength: 9 }).chain((tokens) =>
    fc.record({
      tokens: fc.constant(tokens),
      promptLength: fc.integer({ min: 0, max: tokens.length }),
    })
  ),
  { maxLength: 6 },
);

Deno.test("pack: every answer token is scored once, by the place before it in its own sample", () => {
  fc.assert(fc.property(segments, (samples) => {
    const batch = pack(samples);
    let next = 0;
    for (const [s, { tokens, promptLength }] of samples.entries()) {
      const start = batch.segmentStarts[s], end = batch.segmentStarts[s + 1];
      assertEquals(batch.tokens.slice(start, end), tokens);
      for (let t = start; t < end; t++) {
        assertEquals([batch.positions[t], batch.segmentOf[t]], [t - start, s]);
      }
      for (let i = Math.max(1, promptLength); i < tokens.length; i++, next++) {
        assertEquals(
          [batch.lossPositions[next], batch.lossTargets[next], batch.lossSegments[next]],
          [start + i - 1, tokens[i], s],
        );
        assertEquals(batch.targets[start + i - 1], tokens[i]);
      }
    }
    assertEquals(batch.lossPositions.length, next);
    assertEquals(batch.segmentStarts[samples.length], batch.tokens.length);
  }));
});

Deno.test("planBatches: every sample once, within the budget, whatever the order", () => {
  fc.assert(fc.property(
    fc.array(fc.integer({ min: 1, max: 50 })),
    fc.integer({ min: 1, max: 100 }),
    fc.integer({ min: 1, max: 5 }),
    fc.constantFrom("given" as const, "longest_first" as const),
    (lengths, maxTokens, maxSamples, order) => {
      const batches = planBatches(lengths, { maxTokens, maxSamples, order });
      assertEquals(batches.flat().sort((a, b) => a - b), lengths.map((_, index) => index));
      for (const batch of batches) {
        const tokens = batch.reduce((sum, index) => sum + lengths[index], 0);
        assert(tokens <= maxTokens || batch.length === 1);
        assert(batch.length <= maxSamples);
      }
      if (order === "given") assertEquals(batches.flat(), lengths.map((_, index) => index));
    },
  ));
});

Deno.test("planBatches: longest first fills the first batch and needs fewer", () => {
  const lengths = [1, 9, 2, 8, 5, 5];
  assertEquals(planBatches(lengths, { maxTokens: 10 }), [[0, 1], [2, 3], [4, 5]]);
  assertEquals(planBatches([6, 9, 2, 4], { maxTokens: 10 }), [[0], [1], [2, 3]]);
  assertEquals(planBatches([6, 9, 2, 4], { maxTokens: 10, order: "longest_first" }), [[1], [0, 3], [
    2,
  ]]);
});

Deno.test("shuffledOrder: a permutation, the same each time, another for each epoch and seed", () => {
  const order = shuffledOrder(100, 7);
  assertEquals([...order].sort((a, b) => a - b), Array.from({ length: 100 }, (_, index) => index));
  assertEquals(order, shuffledOrder(100, 7));
  for (const other of [shuffledOrder(100, 7, 1), shuffledOrder(100, 8)]) {
    assert(other.some((index, place) => index !== order[place]));
  }
  assertEquals(shuffledOrder(0, 1), new Uint32Array(0));
  // Stored jobs are resumed by this order: it must never change.
  assertEquals([...shuffledOrder(8, 42)], [7, 1, 4, 2, 6, 5, 3, 0]);
});

Deno.test("xoshiro128: the numbers its authors' C code gives from the state 1, 2, 3, 4", () => {
  const next = xoshiro128(Uint32Array.of(1, 2, 3, 4));
  assertEquals(Array.from({ length: 6 }, () => next() * 2 ** 32), [
    11520,
    0,
    5927040,
    70819200,
    2031721883,
    1637235492,
  ]);
});

Deno.test("randomStream: even over [0, 1)", () => {
  const random = randomStream(0);
  const counts = new Array(10).fill(0);
  for (let i = 0; i < 10_000; i++) counts[Math.floor(random() * 10)]++;
  // Chi-squared with 9 degrees of freedom exceeds 27.9 once in 1000.
  const chiSquared = counts.reduce((sum, count) => sum + (count - 1000) ** 2 / 1000, 0);
  assert(chiSquared < 27.9, `chi-squared is ${chiSquared}`);
});
