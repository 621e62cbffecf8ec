import { assertEquals } from "@std/assert";
import { releaseSegments, uploadSegments } from "../../kernels/attention.ts";
import {
  advance,
  appendKv,
  attentionDecode,
  createKvCache,
  kvCacheBytes,
  releaseKvCache,
  writeKv,
} from "../../kernels/attention_decode.ts";
import { assertThrows } from "../asserts.ts";
import { asHardware } from "../as_hardware.ts";
import { assertClose, guarded, normal, readGuarded, testGpu } from "../gpu.ts";
import { attentionReference } from "../../kernels/reference/attention.ts";

/** Rows of one sample: a prompt and then `steps` single tokens, against attention over the whole. */
async function check(
  [H, KVH, D]: [number, number, number],
  prompts: number[],
  rowSources: number[],
  steps: number,
) {
  const gpu = await testGpu();
  const B = rowSources.length;
  const starts = new Uint32Array(prompts.length + 1);
  prompts.forEach((length, s) => starts[s + 1] = starts[s] + length);
  const T = starts[prompts.length];
  const k = normal(T * KVH * D, 1, 2), v = normal(T * KVH * D, 2);
  const segments = uploadSegments(gpu, starts);
  const capacity = Math.max(...prompts) + steps;
  const cache = createKvCache(gpu, { layers: 2, B, H, KVH, D, capacity });
  const packed = { k: gpu.upload("k", k, [T, KVH, D]), v: gpu.upload("v", v, [T, KVH, D]) };
  writeKv(gpu, {
    ...packed,
    cache,
    layer: 1,
    segments,
    rowSources: gpu.upload("row_sources", Uint32Array.from(rowSources)),
  });
  gpu.write(cache.lengths, Uint32Array.from(rowSources, (s) => prompts[s]));
  // Row 0 is done from the second step on.
  const done = gpu.zeros("done", [B], "u32");
  const history = rowSources.map((s) => ({
    k: [...k.subarray(starts[s] * KVH * D, starts[s + 1] * KVH * D)],
    v: [...v.subarray(starts[s] * KVH * D, starts[s + 1] * KVH * D)],
  }));
  for (let step = 0; step < steps; step++) {
    const q = normal(B * H * D, 10 + step, 2);
    const newK = normal(B * KVH * D, 20 + step, 2), newV = normal(B * KVH * D, 30 + step);
    const tensors = {
      q: gpu.upload("q", q, [B, H, D]),
      k: gpu.upload("k", newK, [B, KVH, D]),
      v: gpu.upload("v", newV, [B, KVH, D]),
    };
    const y = guarded(gpu, "y", [B, H, D]);
    appendKv(gpu, { ...tensors, cache, layer: 1 });
    attentionDecode(gpu, { q: tensors.q, cache, layer: 1, y }, Math.max(...prompts) + step + 1);
    const wanted = history.flatMap((row, b) => {
      const own = (values: Float32Array) => [...values.subarray(b * KVH * D, (b + 1) * KVH * D)];
      const keys = [...row.k, ...own(newK)], values = [...row.v, ...own(newV)];
      if (b > 0 || step === 0) [row.k, row.v] = [keys, values];
      const length = keys.length / KVH / D;
      // Only the last token's query counts.
      const queries = new Float64Array(length * H * D);
      queries.set(q.subarray(b * H * D, (b + 1) * H * D), (length - 1) * H * D);
      const shape = { H, KVH, D, segmentStarts: [0, length] };
      return [...attentionReference(queries, keys, values, shape).subarray((length - 1) * H * D)];
    });
    assertClose(await readGuarded(gpu, y), wanted, 1e-7, `step ${step}`);
    advance(gpu, { cache, done });
    if (step === 0) gpu.write(done, new Uint32Array([1]));
  }
  const lengths = await gpu.readUints(cache.lengths);
  assertEquals(
    [...lengths],
    rowSources.map((s, b) => Math.min(prompts[s] + (b === 0 ? 1 : steps), cache.capacity - 1)),
  );
  releaseKvCache(gpu, cache);
  releaseSegments(gpu, segments);
}

Deno.test("attention_decode: one row, one head", () => check([1, 1, 4], [1], [0], 2));
Deno.test("attention_decode: prompts shared by rows, groups of 3", () =>
  check([9, 3, 64], [5, 70], [0, 1, 1, 0, 0], 3));
Deno.test("attention_decode: groups of 7 in two tiles", () => check([14, 2, 32], [17], [0, 0], 2));
Deno.test("attention_decode: groups of 5 and of 2, odd head sizes", async () => {
  await check([5, 1, 80], [9, 3], [1, 0], 2);
  await check([4, 2, 96], [6], [0], 2);
  await check([2, 1, 256], [3], [0], 2);
});

Deno.test("attention_decode as on hardware GPUs", () =>
  asHardware(async () => {
    await check([9, 3, 64], [5, 70], [0, 1, 1, 0, 0], 3);
    await check([14, 2, 8], [150], [0], 1);
  }));

Deno.test("attention_decode keeps within its rows", async () => {
  const gpu = await testGpu();
  const cache = createKvCache(gpu, { layers: 1, B: 2, H: 1, KVH: 1, D: 4, capacity: 4 });
  cache.layers[0].k = guarded(gpu, "k", [2, 1, 4, 4]);
  cache.layers[0].v = guarded(gpu, "v", [2, 1, 4, 4]);
  gpu.write(cache.lengths, new Uint32Array([1, 4]));
  const one = gpu.upload("one", new Float32Array(8).fill(1), [2, 1, 4]);
  appendKv(gpu, { k: one, v: one, cache, layer: 0 });
  for (const tensor of [cache.layers[0].k, cache.layers[0].v]) {
    const found = await readGuarded(gpu, tensor);
    assertEquals([...found].map((x, i) => [x, i]).filter(([x]) => x === 1).map(([, i]) => i), [
      4,
      5,
      6,
      7,
    ]);
  }
});

Deno.test("attention_decode refuses what does not fit", async () => {
  const gpu = await testGpu();
  const sizes = { layers: 1, B: 2, H: 2, KVH: 1, D: 8, capacity: 6 };
  assertEquals(kvCacheBytes(sizes), { totalBytes: 4 * (2 * 2 * 8 * 8 + 4 * 8), largestBytes: 512 });
  assertThrows(() => createKvCache(gpu, { ...sizes, capacity: 2 ** 30 }), /Cannot cache 2 rows/);
  const cache = createKvCache(gpu, sizes);
  const k = gpu.tensor("k", [9, 1, 8]);
  const segments = uploadSegments(gpu, new Uint32Array([0, 9]));
  const rowSources = gpu.upload("row_sources", new Uint32Array(2));
  assertThrows(
    () => writeKv(gpu, { k, v: k, cache, layer: 0, segments, rowSources }),
    /a sample of 9 positions: there is room for 8/,
  );
  assertThrows(() => appendKv(gpu, { k, v: k, cache, layer: 0 }), /wanted \(2,1,8\)/);
});
