import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import type { Gpu } from "../../../kernels/gpu/gpu.ts";
import { allElements, createOptimizer } from "../../../lib/train/optimizer.ts";

import { assertClose, guarded, normal, readGuarded, testGpu } from "../../gpu.ts";
import { adamwReference } from "../../../kernels/reference/adamw.ts";

const settings = {
  adam_beta1: 0.9,
  adam_beta2: 0.99,
  adam_epsilon: 1e-8,
  weight_decay: 0.1,
  max_grad_norm: 1,
};
const rates = [1e-2, 9e-3, 2e-2, 1e-2, 0, 5e-3, 1e-2, 1e-2, 3e-3, 1e-3];

/** Some elements, ascending, neither a pattern nor a multiple of four. */
function someActive(elements: number): Uint32Array<ArrayBuffer> {
  return Uint32Array.from({ length: elements }, (_, i) => i).filter((i) =>
    (i * 7 + i % 5) % 3 !== 0
  );
}

async function train(
  gpu: Gpu,
  elements: number,
  list: Uint32Array<ArrayBuffer>,
  options = settings,
  from = 0,
  to = rates.length,
  resume?: { phi: Float32Array<ArrayBuffer>; m: Float32Array; v: Float32Array },
) {
  const phi = guarded(gpu, "phi", [elements]);
  gpu.write(phi, resume?.phi ?? normal(elements, 1, 0.05));
  const grad = gpu.zeros("grad", [elements]);
  const active = { indices: gpu.upload("indices", list), count: list.length };
  const optimizer = createOptimizer(gpu, { phi, grad }, active, options);
  if (resume) {
    gpu.write(optimizer.m, Float32Array.from(resume.m));
    gpu.write(optimizer.v, Float32Array.from(resume.v));
    optimizer.steps = from;
  }
  const norms: number[] = [];
  for (let step = from; step < to; step++) {
    gpu.write(grad, normal(elements, 100 + step, 0.02));
    optimizer.step(rates[step]);
    norms.push((await gpu.readFloats(optimizer.gradNorm))[0]);
  }
  const result = {
    phi: await readGuarded(gpu, phi),
    m: await gpu.readFloats(optimizer.m),
    v: await gpu.readFloats(optimizer.v),
    norms,
  };
  optimizer.release();
  gpu.release(phi, grad, active.indices);
  return result;
}

const words = (values: Float32Array) => new Uint32Array(values.slice().buffer);

for (const elements of [1, 6, 1003, 50_001]) {
  Deno.test(`optimizer: ten masked AdamW steps on ${elements} elements`, async () => {
    const gpu = await testGpu();
    const limit = gpu.facts.limits.maxWorkgroupsPerDimension;
    // Folds the grid into two dimensions, as past 65,535 workgroups.
    gpu.facts.limits.maxWorkgroupsPerDimension = 50;
    const list = elements === 1 ? Uint32Array.of(0) : someActive(elements);
    for (const max_grad_norm of [1, 0]) {
      const found = await train(gpu, elements, list, { ...settings, max_grad_norm });
      const start = normal(elements, 1, 0.05);
      const state = {
        phi: Float64Array.from(start),
        m: new Float64Array(elements),
        v: new Float64Array(elements),
      };
      const norms = rates.map((lr, step) =>
        adamwReference(state, normal(elements, 100 + step, 0.02), list, {
          lr,
          beta1: 0.9,
          beta2: 0.99,
          eps: 1e-8,
          weightDecay: 0.1,
          maxGradNorm: max_grad_norm,
          step: step + 1,
        })
      );
      assertClose(found.norms, norms, 1e-12, "norms");
      const change = (values: ArrayLike<number>) => start.map((value, i) => values[i] - value);
      assertClose(change(found.phi), change(state.phi), 1e-7, "change of phi");
      const compact = (values: Float64Array) => Array.from(list, (i) => values[i]);
      assertClose(found.m, compact(state.m), 1e-7, "m");
      assertClose(found.v, compact(state.v), 1e-7, "v");
      const isActive = new Set(list);
      const before = words(start), after = words(found.phi);
      let moved = 0;
      for (let i = 0; i < elements; i++) {
        if (isActive.has(i)) moved += before[i] !== after[i] ? 1 : 0;
        else assertStrictEquals(after[i], before[i], `inactive element ${i} moved`);
      }
      assert(moved >= 0.99 * list.length, `only ${moved} of ${list.length} active elements moved`);
    }
    gpu.facts.limits.maxWorkgroupsPerDimension = limit;
  });
}

Deno.test("optimizer: two runs, and a run resumed half-way, give the same bits", async () => {
  const gpu = await testGpu();
  const elements = 3001, list = someActive(elements);
  const whole = await train(gpu, elements, list);
  const again = await train(gpu, elements, list);
  assertEquals(words(again.phi), words(whole.phi));
  assertEquals(again.norms, whole.norms);
  const half = await train(gpu, elements, list, settings, 0, 5);
  const rest = await train(gpu, elements, list, settings, 5, 10, half);
  for (const key of ["phi", "m", "v"] as const) {
    assertEquals(words(rest[key]), words(whole[key]), key);
  }
});

Deno.test("optimizer: a gradient of NaN or Inf changes nothing and is counted", async () => {
  const gpu = await testGpu();
  const elements = 500, list = someActive(elements);
  const active = { indices: gpu.upload("indices", list), count: list.length };
  const phi = gpu.upload("phi", normal(elements, 1)), grad = gpu.zeros("grad", [elements]);
  const optimizer = createOptimizer(gpu, { phi, grad }, active, settings);
  gpu.write(grad, normal(elements, 2));
  optimizer.step(1e-2);
  const state = async () => {
    const read = await gpu.readWords([phi, optimizer.m, optimizer.v]);
    return read.map((buffer) => new Uint32Array(buffer));
  };
  const before = await state();
  let refused = 0;
  for (const bad of [NaN, Infinity, -Infinity, 3e38]) {
    const values = normal(elements, 3);
    values[list[77]] = bad;
    gpu.write(grad, values);
    optimizer.step(1e-2);
    assertEquals(await state(), before, `after ${bad}`);
    const [norm, , flag, count] = await gpu.readFloats(optimizer.gradNorm);
    assert(!Number.isFinite(norm));
    assertEquals([flag, count], [1, ++refused]);
  }
  // An inactive element's gradient does not matter.
  const values = normal(elements, 3);
  const inactive = [...values.keys()].find((i) => !list.includes(i))!;
  values[inactive] = NaN;
  gpu.write(grad, values);
  optimizer.step(1e-2);
  const after = await state();
  assert(after[0].some((word, i) => word !== before[0][i]));
  const [norm, , flag, count] = await gpu.readFloats(optimizer.gradNorm);
  assert(Number.isFinite(norm));
  assertEquals([flag, count], [0, refused]);
});

Deno.test("optimizer: with nothing active nothing moves, with all everything does", async () => {
  const gpu = await testGpu();
  const elements = 130, start = normal(elements, 1);
  for (const all of [false, true]) {
    const phi = gpu.upload("phi", start), grad = gpu.upload("grad", normal(elements, 2));
    const none = { indices: gpu.zeros("none", [1], "u32"), count: 0 };
    const active = all ? allElements(gpu, elements) : none;
    createOptimizer(gpu, { phi, grad }, active, settings).step(1e-2);
    const moved = (await gpu.readFloats(phi)).filter((value, i) => value !== start[i]).length;
    assertStrictEquals(moved, all ? elements : 0);
  }
});
