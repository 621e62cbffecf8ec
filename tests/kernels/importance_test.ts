import { assert } from "@std/assert";
import { accumulateImportance, finishImportance } from "../../kernels/importance.ts";
import { assertThrows } from "../asserts.ts";
import { assertClose, guarded, normal, readGuarded, testGpu } from "../gpu.ts";
import { importanceReference } from "../../kernels/reference/importance.ts";

for (const [E, examples] of [[1, 1], [7, 3], [4096, 100], [40_001, 8]]) {
  Deno.test(`importance of ${E} elements over ${examples} examples`, async () => {
    const gpu = await testGpu();
    const limit = gpu.facts.limits.maxWorkgroupsPerDimension;
    // Folds the grid into two dimensions, as past 65,535 workgroups.
    gpu.facts.limits.maxWorkgroupsPerDimension = 20;
    const phiValues = normal(E, 1, 0.01);
    const gradients = Array.from({ length: examples }, (_, i) => normal(E, 2 + i, 3));
    const phi = gpu.upload("phi", phiValues);
    const sums = {
      s1: guarded(gpu, "s1", [E]),
      s2: guarded(gpu, "s2", [E]),
      carry1: guarded(gpu, "carry1", [E]),
      carry2: guarded(gpu, "carry2", [E]),
    };
    for (const tensor of Object.values(sums)) gpu.write(tensor, new Float32Array(E));
    for (const values of gradients) {
      const g = gpu.upload("g", values);
      accumulateImportance(gpu, { g, phi, sums });
      gpu.release(g);
    }
    const importance = guarded(gpu, "importance", [E]);
    finishImportance(gpu, { sums, importance }, examples);
    gpu.facts.limits.maxWorkgroupsPerDimension = limit;
    const wanted = importanceReference(gradients, phiValues);
    assertClose(await readGuarded(gpu, sums.s1), wanted.s1, 1e-7, "S1");
    assertClose(await readGuarded(gpu, sums.s2), wanted.s2, 1e-7, "S2");
    assertClose(await readGuarded(gpu, importance), wanted.importance, 1e-7, "importance");
    for (const carry of [sums.carry1, sums.carry2]) await readGuarded(gpu, carry);
  });
}

Deno.test("importance sums lose no more over 3000 examples than over one", async () => {
  const gpu = await testGpu();
  const E = 64, examples = 3000;
  const g = gpu.upload("g", new Float32Array(E).fill(0.1)), phi = gpu.upload("phi", normal(E, 3));
  const zeros = (label: string) => gpu.zeros(label, [E]);
  const sums = { s1: zeros("s1"), s2: zeros("s2"), carry1: zeros("c1"), carry2: zeros("c2") };
  for (let i = 0; i < examples; i++) accumulateImportance(gpu, { g, phi, sums });
  const s1 = await gpu.readFloats(sums.s1);
  const values = normal(E, 3);
  for (let i = 0; i < E; i++) {
    const wanted = examples * Math.fround(Math.fround(0.1) * values[i]);
    // Plain f32 sums are off by 1e-5 here.
    assert(Math.abs(s1[i] / wanted - 1) < 1.3e-7, `element ${i}: ${s1[i]}, wanted ${wanted}`);
  }
});

Deno.test("importance refuses a gradient of another length", async () => {
  const gpu = await testGpu();
  const zeros = (length: number) => gpu.zeros("x", [length]);
  const sums = { s1: zeros(8), s2: zeros(8), carry1: zeros(8), carry2: zeros(8) };
  assertThrows(() => accumulateImportance(gpu, { g: zeros(4), phi: zeros(8), sums }), RangeError);
});
