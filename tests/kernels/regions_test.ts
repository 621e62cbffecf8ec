import { assertEquals, assertStrictEquals } from "@std/assert";
import { compactActive, compactKnown } from "../../kernels/compact.ts";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import type { Tensor } from "../../kernels/gpu/tensor.ts";
import { activateElements, cutSegments, markRegions } from "../../kernels/regions.ts";
import { selectAll, selectByShare, selectSharedByCount } from "../../kernels/select.ts";

import { normal, testGpu } from "../gpu.ts";
import { keptByShare, topShared } from "../../kernels/reference/select.ts";

const guard = 0xdeadbeef;

/** A tensor of one byte an element with 16 guard words behind it. */
function guardedBytes(gpu: Gpu, elements: number): Tensor {
  const words = Math.ceil(elements / 4) + 16;
  const whole = gpu.upload("bytes", new Uint32Array(words).fill(guard));
  return { ...whole, shape: [elements], dtype: "u8" };
}

async function readBytes(gpu: Gpu, tensor: Tensor): Promise<Uint8Array> {
  const [words] = await gpu.readWords([tensor]);
  const elements = tensor.shape[0];
  const guards = new Uint32Array(words, 4 * Math.ceil(elements / 4));
  assertStrictEquals(guards.length, 16);
  assertEquals(guards, new Uint32Array(16).fill(guard), "written past the end");
  return new Uint8Array(words, 0, elements);
}

// Runs of odd lengths, so that words are shared by two, three and four of them; one is empty.
const layouts = [[1], [5, 1, 1, 2, 0, 30], [2049, 3, 4096, 7, 255, 256, 257, 2048 * 3 + 1]];

for (const lengths of layouts) {
  Deno.test(`regions, active elements and their lists over runs of ${lengths}`, async () => {
    const gpu = await testGpu();
    const limit = gpu.facts.limits.maxWorkgroupsPerDimension;
    // Folds the grid into two dimensions, as past 65,535 workgroups.
    gpu.facts.limits.maxWorkgroupsPerDimension = 300;
    const elements = lengths.reduce((sum, length) => sum + length, 0);
    const values = [4, 5].map((seed) =>
      normal(elements, seed).map((x) => Math.abs(Math.round(8 * x)) + 0.125)
    );
    const importance = {
      system1: gpu.upload("importance1", values[0]),
      system2: gpu.upload("importance2", values[1]),
    };
    const selection = {
      system1: selectByShare(gpu, importance.system1, 0.9),
      system2: selectByShare(gpu, importance.system2, 0.5),
    };
    const segments = cutSegments(gpu, lengths);
    const regions = guardedBytes(gpu, elements);
    const counts = gpu.tensor("counts", [segments.count, 4], "u32");
    markRegions(gpu, { importance, selection, segments, regions, counts });

    const kept1 = keptByShare(values[0], 0.9), kept2 = keptByShare(values[1], 0.5);
    const wanted = kept1.map((kept, i) => kept | (kept2[i] << 1));
    assertEquals(await readBytes(gpu, regions), wanted);

    const found = await gpu.readUints(counts);
    const first = lengths.map((_, run) => lengths.slice(0, run).reduce((sum, n) => sum + n, 0));
    for (const [run, length] of lengths.entries()) {
      const sums = [0, 0, 0, 0];
      for (const [segment, owner] of segments.runOf.entries()) {
        if (owner === run) sums.forEach((_, code) => sums[code] += found[4 * segment + code]);
      }
      const codes = [...wanted.subarray(first[run], first[run] + length)];
      const expected = [0, 1, 2, 3].map((code) => codes.filter((found) => found === code).length);
      assertEquals(sums, expected, `run ${run}`);
    }

    const shared = wanted.filter((code) => code === 3).length;
    const active = guardedBytes(gpu, elements);
    const half = Math.floor(shared / 2);
    const cuts = {
      system1: selectSharedByCount(gpu, { importance: importance.system1, regions }, half),
      system2: selectAll(gpu),
    };
    activateElements(gpu, { importance, selection: cuts, regions, active });
    const top1 = topShared(values[0], wanted, 0.5);
    const mask = wanted.map((code, i) => code === 3 ? top1[i] | 2 : code);
    assertEquals(await readBytes(gpu, active), mask);

    for (const bits of [1, 2, 3]) {
      const list = [...mask.keys()].filter((i) => (mask[i] & bits) !== 0);
      for (const known of [undefined, list.length]) {
        const coded = { codes: active, segments };
        const compact = known === undefined
          ? await compactActive(gpu, coded, bits)
          : compactKnown(gpu, coded, bits, known);
        assertStrictEquals(compact.count, list.length);
        const indices = await gpu.readUints(compact.indices);
        assertEquals([...indices.subarray(0, compact.count)], list);
      }
    }
    gpu.facts.limits.maxWorkgroupsPerDimension = limit;
  });
}
