import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import fc from "fast-check";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import { type Cut, readCut, selectByShare, selectSharedByCount } from "../../kernels/select.ts";
import { assertThrows } from "../asserts.ts";
import { normal, testGpu } from "../gpu.ts";
import { keptByShare, topShared } from "../../kernels/reference/select.ts";

const thetas = [0.3, 0.5, 0.9, 0.95, 1];

/** One cut after the other, read back in one copy. */
async function cutsOf(gpu: Gpu, values: Float32Array, shares: number[]): Promise<Cut[]> {
  const importance = gpu.upload("importance", values);
  const selections = shares.map((theta) => selectByShare(gpu, importance, theta).state);
  const words = await gpu.readWords(selections);
  gpu.release(importance, ...selections);
  return words.map((buffer) => readCut(new Uint32Array(buffer, 0, 8)));
}

function keptBy(values: Float32Array, { threshold, lastIndex }: Cut): Uint8Array {
  return Uint8Array.from(
    values,
    (value, i) => value > threshold || (value === threshold && i <= lastIndex) ? 1 : 0,
  );
}

async function assertExact(gpu: Gpu, values: Float32Array, shares = thetas) {
  const cuts = await cutsOf(gpu, values, shares);
  for (const [i, theta] of shares.entries()) {
    assertStrictEquals(cuts[i].status, "ok");
    assertEquals(keptBy(values, cuts[i]), keptByShare(values, theta), `theta ${theta}`);
  }
}

const from = (...values: number[]) => Float32Array.from(values);
const smallest = 2 ** -149;
const cases: [string, Float32Array][] = [
  ["one element", from(3)],
  ["one denormal", from(smallest)],
  ["zeros around one value", from(0, 0, 5, 0, 0)],
  ["all equal", new Float32Array(1001).fill(0.1)],
  ["all equal and largest", new Float32Array(300).fill(3.4028234663852886e38)],
  ["denormals only", Float32Array.from({ length: 500 }, (_, i) => (i % 97) * smallest)],
  [
    "1e-38 next to 1e38",
    Float32Array.from({ length: 999 }, (_, i) => i % 3 === 0 ? 1e38 : i % 3 === 1 ? 1e-38 : 1e-44),
  ],
  ["a sum that f64 would round", from(1, ...new Array(70).fill(2 ** -60), 2 ** -50)],
  ["ties at the cut, far apart", Float32Array.from({ length: 5000 }, (_, i) => i % 7 ? 1 : 2)],
  ["neighbouring floats", Float32Array.from({ length: 3000 }, (_, i) => 1 + (i % 11) * 2 ** -23)],
];

for (const variant of ["private", "shared"]) {
  Deno.test(`select by share is exact (${variant} histograms)`, async (t) => {
    const gpu = await testGpu();
    gpu.choices.set("select", variant);
    for (const [name, values] of cases) {
      await t.step(name, () => assertExact(gpu, values));
    }
    await t.step("random arrays with ties, zeros and every scale", async () => {
      const value = fc.oneof(
        fc.constantFrom(0, smallest, 1, 1 + 2 ** -23, 1e-38, 1e38, 2 ** -126),
        fc.float({ min: 0, noNaN: true, noDefaultInfinity: true }),
        fc.integer({ min: 0, max: 20 }).map((n) => n / 8),
      );
      const property = fc.asyncProperty(
        fc.array(value, { minLength: 1, maxLength: 400 }),
        fc.double({ min: 2 ** -40, max: 1, noNaN: true }),
        async (list, theta) => {
          const values = Float32Array.from(list, Math.abs);
          if (values.every((x) => x === 0)) return;
          await assertExact(gpu, values, [theta, ...thetas]);
        },
      );
      await fc.assert(property, { numRuns: 40, seed: 7 });
    });
    await t.step("70,003 elements", async () => {
      const values = normal(70_003, 5).map((x) => Math.abs(x) ** 3);
      await assertExact(gpu, values, [0.3, 0.9]);
    });
    await t.step(
      "300,001 elements of six values: sums pass 32 bits, ties lie far apart",
      async () => {
        const values = normal(300_001, 6).map((x) => 1.9 * Math.abs(Math.round(x)));
        await assertExact(gpu, values, [0.5, 0.95]);
      },
    );
    gpu.choices.delete("select");
  });
}

Deno.test("select by share refuses what is no importance", async () => {
  const gpu = await testGpu();
  const status = async (values: Float32Array) => (await cutsOf(gpu, values, [0.9]))[0].status;
  assertStrictEquals(await status(from(1, 2, NaN)), "not_finite");
  assertStrictEquals(await status(from(Infinity, 1)), "not_finite");
  assertStrictEquals(await status(from(1, 2, 3, 4, -1e-30)), "not_finite");
  assertStrictEquals(await status(new Float32Array(77)), "zero_total");
  const [none] = await cutsOf(gpu, new Float32Array(77), [0.9]);
  assert(keptBy(new Float32Array(77), none).every((kept) => kept === 0));
  const importance = gpu.upload("importance", from(1));
  for (const theta of [0, -1, 1.0001, NaN]) {
    assertThrows(() => selectByShare(gpu, importance, theta), RangeError);
  }
});

Deno.test("select by count keeps the first of the shared elements only", async () => {
  const gpu = await testGpu();
  for (const variant of ["private", "shared"]) {
    gpu.choices.set("select", variant);
    const values = normal(9001, 8).map((x) => Math.abs(Math.round(20 * x) / 7));
    const codes = Uint8Array.from({ length: 9001 }, (_, i) => (i * 7) % 5 % 4);
    const importance = gpu.upload("importance", values);
    const regions = gpu.upload("regions", codes, [9001], "u8");
    const shared = codes.filter((code) => code === 3).length;
    assert(shared > 1000);
    for (const count of [0, 1, 2, 500, shared - 1, shared, shared + 1]) {
      const { state } = selectSharedByCount(gpu, { importance, regions }, count);
      const cut = readCut(await gpu.readUints(state));
      assertStrictEquals(cut.status, count > shared ? "too_few" : "ok");
      if (count > shared) continue;
      const found = keptBy(values, cut).map((kept, i) => kept & (codes[i] === 3 ? 1 : 0));
      assertEquals(found, topShared(values, codes, (count + 0.5) / shared), `count ${count}`);
    }
  }
  gpu.choices.delete("select");
});
