import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { NumericError } from "../../../lib/errors.ts";
import { hasZeroB, initAdapter, type InitSettings } from "../../../lib/lora/init.ts";
import { layoutOfTensors, type LoraLayout } from "../../../lib/lora/layout.ts";
import { openSafetensors } from "../../../lib/model/safetensors.ts";
import { assertRejects } from "../../asserts.ts";
import { assertClose } from "../../gpu.ts";

const q = "model.layers.0.self_attn.q_proj", up = "model.layers.0.mlp.up_proj";

function layoutFor(r: number, shapes: Record<string, [number, number]>): LoraLayout {
  const tensors = Object.entries(shapes).flatMap(([path, [outputs, inputs]]): [
    string,
    number[],
  ][] => [
    [`${path}.lora_A.weight`, [r, inputs]],
    [`${path}.lora_B.weight`, [outputs, r]],
  ]);
  return layoutOfTensors(new Map(tensors), "the test");
}

const settings = (init: InitSettings["init"], r = 8): InitSettings => ({
  r,
  lora_alpha: 2 * r,
  use_rslora: false,
  init,
});

Deno.test("init: gaussian draws both factors from N(0, 0.01^2)", async () => {
  const layout = layoutFor(8, { [q]: [512, 640], [up]: [1024, 512] });
  const phi = await initAdapter(layout, settings("gaussian"), 1);
  for (const { name, offset, rows, columns } of layout.tensors) {
    const values = [...phi.subarray(offset, offset + rows * columns)].map((value) => 100 * value);
    const moment = (power: number) =>
      values.reduce((sum, value) => sum + value ** power, 0) / values.length;
    const bound = (variance: number) => 5 * Math.sqrt(variance / values.length);
    assert(Math.abs(moment(1)) < bound(1), `${name}: mean ${moment(1)}`);
    assert(Math.abs(moment(2) - 1) < bound(2), `${name}: variance ${moment(2)}`);
    assert(Math.abs(moment(4) - 3) < bound(96), `${name}: fourth moment ${moment(4)}`);
  }
  assertStrictEquals(hasZeroB(layout, phi), false);
});

Deno.test("init: default is Kaiming-uniform A and zero B", async () => {
  const layout = layoutFor(8, { [q]: [64, 640] });
  const phi = await initAdapter(layout, settings("default"), 1);
  const a = phi.subarray(0, 8 * 640), bound = 1 / Math.sqrt(640);
  assert(a.every((value) => Math.abs(value) <= bound));
  const variance = a.reduce((sum, value) => sum + value * value, 0) / a.length;
  assert(Math.abs(variance / (bound * bound / 3) - 1) < 0.06, `variance ${variance}`);
  assert(phi.subarray(8 * 640).every((value) => value === 0));
  assertStrictEquals(hasZeroB(layout, phi), true);
});

Deno.test("init: a matrix depends on the seed and its name, not on the others", async () => {
  const both = layoutFor(4, { [q]: [32, 48], [up]: [64, 48] });
  const alone = layoutFor(4, { [up]: [64, 48] });
  const phi = await initAdapter(both, settings("gaussian", 4), 7);
  const other = await initAdapter(alone, settings("gaussian", 4), 7);
  assertEquals(phi.subarray(both.pair(0, "up_proj")!.offsetA), other);
  const reseeded = await initAdapter(alone, settings("gaussian", 4), 8);
  const equal = reseeded.filter((value, i) => value === other[i]).length;
  assert(equal < other.length / 100);
});

for (const name of ["wide", "tall"]) {
  Deno.test(`init: pissa gives PEFT's approximation of a ${name} weight`, async () => {
    const file = openSafetensors(
      new URL("../../golden/pissa.safetensors", import.meta.url).pathname,
    );
    const read = (key: string) => file.readFloat32(`${name}.${key}`);
    const { data: weight, shape } = read("weight");
    const { data: delta } = read("delta");
    const { data: norms } = read("factor_norms");
    file.close();
    const [outputs, inputs] = shape;
    const layout = layoutFor(4, { [q]: [outputs, inputs] });
    const asked: string[] = [];
    const phi = await initAdapter(layout, settings("pissa", 4), 3, {
      readWeight: (name) => {
        asked.push(name);
        return Promise.resolve(weight);
      },
    });
    assertEquals(asked, [`${q}.weight`]);
    const { offsetA, offsetB } = layout.pair(0, "q_proj")!;
    const product = new Float64Array(outputs * inputs);
    for (let i = 0; i < outputs; i++) {
      for (let j = 0; j < inputs; j++) {
        for (let k = 0; k < 4; k++) {
          product[i * inputs + j] += 2 * phi[offsetB + i * 4 + k] * phi[offsetA + k * inputs + j];
        }
      }
    }
    // PEFT's own f32 decomposition is off by 2.6e-12.
    assertClose(product, delta, 1e-11, "scale * B A");
    const rowNorms = [0, 1, 2, 3].map((k) =>
      Math.hypot(...phi.subarray(offsetA + k * inputs, offsetA + (k + 1) * inputs))
    );
    assertClose(rowNorms, norms, 1e-12, "norms of A's rows");
  });
}

Deno.test("init: pissa refuses a missing reader, a weight of another size and one with NaN", async () => {
  const layout = layoutFor(4, { [q]: [8, 12] });
  await assertRejects(initAdapter(layout, settings("pissa", 4), 1), /weights are needed/);
  const readWeight = () => Promise.resolve(new Float32Array(95));
  await assertRejects(
    initAdapter(layout, settings("pissa", 4), 1, { readWeight }),
    /it has 95 elements, wanted 8 x 12/,
  );
  for (const bad of [NaN, Infinity]) {
    const holed = new Float32Array(96).fill(1);
    holed[50] = bad;
    await assertRejects(
      initAdapter(layout, settings("pissa", 4), 1, { readWeight: () => Promise.resolve(holed) }),
      (error) => error instanceof NumericError && error.message.includes(`${q}.weight holds NaN`),
    );
  }
});
