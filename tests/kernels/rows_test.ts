import { assert, assertEquals } from "@std/assert";
import { add } from "../../kernels/add.ts";
import { dropout } from "../../kernels/dropout.ts";
import { embedding } from "../../kernels/embedding.ts";
import { gatherRows, scatterRows } from "../../kernels/rows.ts";
import { uploadWeight } from "../../kernels/weight.ts";

import { guarded, normal, readGuarded, testGpu } from "../gpu.ts";

Deno.test("rows: gather and scatter move whole rows and leave the others", async () => {
  const gpu = await testGpu();
  const T = 9, C = 12, numbers = Uint32Array.of(7, 0, 3);
  const x = normal(T * C, 1);
  const row = (values: Float32Array, t: number) => values.slice(t * C, (t + 1) * C);
  const picked = guarded(gpu, "picked", [3, C]);
  const rows = gpu.upload("numbers", numbers);
  gatherRows(gpu, { x: gpu.upload("x", x, [T, C]), numbers: rows, y: picked });
  const found = await readGuarded(gpu, picked);
  numbers.forEach((t, i) => assertEquals(row(found, i), row(x, t)));
  const back = guarded(gpu, "back", [T, C]);
  gpu.write(back, new Float32Array(T * C).fill(5));
  scatterRows(gpu, { x: picked, numbers: rows, y: back });
  const scattered = await readGuarded(gpu, back);
  for (let t = 0; t < T; t++) {
    const wanted = numbers.includes(t) ? row(x, t) : new Float32Array(C).fill(5);
    assertEquals(row(scattered, t), wanted);
  }
});

Deno.test("embedding picks each type's rows, over several ranges of the table", async () => {
  const gpu = await testGpu();
  const V = 200, C = 36, values = normal(V * C, 1).map((x) => Math.fround(Math.round(x * 8) / 8));
  const tokens = Uint32Array.from({ length: 77 }, (_, t) => (t * 53) % V);
  const wanted = Float32Array.from(
    { length: 77 * C },
    (_, i) => values[tokens[Math.floor(i / C)] * C + i % C],
  );
  const bf16 = new Uint16Array(new Uint32Array(values.buffer).map((word) => word >>> 16));
  const f16 = new Float16Array(values);
  const limit = gpu.facts.limits.maxBindingBytes;
  for (const [dtype, data] of [["f32", values], ["bf16", bf16], ["f16", f16]] as const) {
    gpu.facts.limits.maxBindingBytes = 128 * C * data.BYTES_PER_ELEMENT;
    const bytes = new Uint8Array(data.buffer as ArrayBuffer);
    const weight = uploadWeight(gpu, "table", { dtype, shape: [V, C], bytes });
    gpu.facts.limits.maxBindingBytes = limit;
    assert(weight.rows.length > 1);
    const x = guarded(gpu, "x", [77, C]);
    embedding(gpu, { tokens: gpu.upload("tokens", tokens), weight, x });
    assertEquals(await readGuarded(gpu, x), wanted);
  }
});

Deno.test("add sums elementwise", async () => {
  const gpu = await testGpu();
  const a = normal(52, 1), b = normal(52, 2);
  const y = guarded(gpu, "y", [13, 4]);
  add(gpu, { a: gpu.upload("a", a, [13, 4]), b: gpu.upload("b", b, [13, 4]), y });
  assertEquals(await readGuarded(gpu, y), a.map((value, i) => value + b[i]));
});

Deno.test("dropout keeps 1 - p of the elements, scaled, the same ones for the same seed", async () => {
  const gpu = await testGpu();
  const count = 40_000, p = 0.3;
  const x = gpu.upload("x", new Float32Array(count).fill(1), [count]);
  const run = async (seed: number, accumulate = false) => {
    const y = guarded(gpu, "y", [count]);
    gpu.write(y, new Float32Array(count).fill(2));
    dropout(gpu, { x, y }, { p, seed, accumulate });
    return await readGuarded(gpu, y);
  };
  const first = await run(1);
  const kept = first.filter((value) => value !== 0);
  assert(kept.every((value) => value === Math.fround(1 / (1 - p))));
  // Five standard deviations of a fair coin of this bias.
  assert(Math.abs(kept.length / count - (1 - p)) < 5 * Math.sqrt(p * (1 - p) / count));
  assertEquals(await run(1), first);
  const other = await run(2);
  const both = other.filter((value, i) => value !== 0 && first[i] !== 0).length / count;
  assert(Math.abs(both - (1 - p) ** 2) < 0.02, `masks of two seeds agree on ${both}`);
  assertEquals(await run(1, true), first.map((value) => Math.fround(value + 2)));
});
