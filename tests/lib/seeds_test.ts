import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { deriveSeed, murmurHash3, type SeedPurpose } from "../../lib/seeds.ts";

for (
  const [seed, words, wanted] of [
    [0, [], 0],
    [1, [], 0x514e28b7],
    [0, [0], 0x2362f9de],
    [0, [0xffffffff], 0x76293b50],
    [0x5082edee, [0x87654321], 0x2362f9de],
    [0, [0x87654321], 0xf55b516b],
    [7, [1, 2, 3], 0x8cda52d7],
    [0xffffffff, [3, 100000], 0xb17451ba],
  ] as const
) {
  // From the reference implementation, through Python's mmh3.
  Deno.test(`murmurHash3: seed ${seed} of ${words.join(", ") || "nothing"}`, () => {
    assertStrictEquals(murmurHash3(seed, words), wanted);
  });
}

Deno.test("deriveSeed: a step of one seed is no step of its neighbour, whatever it is for", () => {
  const purposes: SeedPurpose[] = ["phase", "rollout", "dropout", "vote", "batch"];
  const seen = new Set<number>();
  for (let seed = 0; seed < 32; seed++) {
    for (const purpose of purposes) {
      for (let step = 0; step < 32; step++) seen.add(deriveSeed(seed, purpose, step));
    }
  }
  assertStrictEquals(seen.size, 32 * purposes.length * 32);
});

Deno.test("deriveSeed: the steps of a seed never meet, nor do the seeds of a step", () => {
  const bySteps = new Set<number>(), bySeed = new Set<number>();
  const count = 100_000;
  for (let i = 0; i < count; i++) {
    bySteps.add(deriveSeed(3, "rollout", i));
    bySeed.add(deriveSeed(i, "rollout", 3));
  }
  assertEquals([bySteps.size, bySeed.size], [count, count]);
});

Deno.test("deriveSeed: one bit of any input turns half of the bits", () => {
  const bits = (x: number) => x.toString(2).replaceAll("0", "").length;
  const turned: number[] = [];
  for (let i = 0; i < 200; i++) {
    const base = deriveSeed(i, "dropout", 5 * i, 3);
    for (let bit = 0; bit < 12; bit++) {
      turned.push(bits((base ^ deriveSeed(i ^ (1 << bit), "dropout", 5 * i, 3)) >>> 0));
      turned.push(bits((base ^ deriveSeed(i, "dropout", (5 * i) ^ (1 << bit), 3)) >>> 0));
    }
  }
  const mean = turned.reduce((sum, count) => sum + count, 0) / turned.length;
  assert(Math.abs(mean - 16) < 0.2, `${mean} of 32`);
});
