import { assert, assertEquals } from "@std/assert";
import { type Candidate, fastest } from "../../../kernels/gpu/autotune.ts";
import type { Gpu } from "../../../kernels/gpu/gpu.ts";
import type { Kernel } from "../../../kernels/gpu/pipelines.ts";
import { matmulKey, variantFor } from "../../../kernels/matmul_variants.ts";
import { tuneMatmul } from "../../../kernels/matmul.ts";
import { destroyWeight, uploadWeight } from "../../../kernels/weight.ts";
import { assertRejects } from "../../asserts.ts";
import { asHardware } from "../../as_hardware.ts";
import { testGpu } from "../../gpu.ts";

const gpu = await testGpu();

const code = (statement: string, lanes = 64) =>
  `@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(${lanes})
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  ${statement}
}`;

function candidate(gpu: Gpu, name: string, text: string): Candidate {
  const kernel: Kernel = { label: `test.${name}`, code: text, entryPoint: "main" };
  const y = gpu.zeros("y", [64]);
  return { name, record: () => gpu.run(kernel, [y], [1]) };
}

const works = candidate(gpu, "works", code("y[id.x] = 1.0;"));
const misspelt = candidate(gpu, "misspelt", code("y[id.x] = nonsense;"));
const tooWide = candidate(gpu, "too_wide", code("y[id.x] = 1.0;", 65536));

Deno.test("fastest leaves out what the adapter refuses, and the device lives on", async () => {
  assertEquals(await fastest(gpu, "test", [misspelt, tooWide, works]), "works");
  await gpu.sync();
  assert(!gpu.failed);
  assertEquals(gpu.choices.get("test"), "works");
  gpu.choices.delete("test");
});

Deno.test("fastest says why, where every candidate is refused", async () => {
  await assertRejects(
    () => fastest(gpu, "test", [misspelt, tooWide]),
    /Cannot run test on .*misspelt: Cannot compile test\.misspelt: line 4:\d+: .*too_wide: /s,
  );
  await gpu.sync();
  assertEquals(gpu.choices.has("test"), false);
});

Deno.test("a stored choice that is no candidate today is measured anew", async () => {
  for (const stored of ["banana", "__proto__", "constructor", ""]) {
    gpu.choices.set("test", stored);
    assertEquals(await fastest(gpu, "test", [works]), "works");
  }
  gpu.choices.set("test", "works");
  const unmeasured = { name: "other", record: () => assert(false, "it was measured") };
  assertEquals(await fastest(gpu, "test", [unmeasured, works]), "works");
  gpu.choices.delete("test");
});

Deno.test("a product's stored choice that is no variant is not run, and is measured anew", async () => {
  const shape = { rows: 3, N: 8, K: 12, dtype: "bf16", direction: "forward" } as const;
  const stored = { dtype: shape.dtype, shape: [8, 12], bytes: new Uint8Array(2 * 8 * 12) };
  const key = matmulKey(shape);
  await asHardware(async () => {
    const weight = uploadWeight(gpu, "weight", stored);
    for (const name of ["banana", "__proto__", "toString", "broadcast"]) {
      gpu.choices.set(key, name);
      assertEquals(variantFor(gpu, shape, weight), "split");
    }
    gpu.choices.set(key, "banana");
    await tuneMatmul(gpu, { shapes: [shape] });
    assert(["split", "loop", "tile_64"].includes(gpu.choices.get(key)!));
    gpu.choices.delete(key);
    await destroyWeight(gpu, weight);
  });
});
