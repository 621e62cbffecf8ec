import { assert, assertEquals } from "@std/assert";
import type { Gpu } from "../../../kernels/gpu/gpu.ts";
import { InvalidFile } from "../../../lib/errors.ts";
import { layoutOfTensors } from "../../../lib/lora/layout.ts";
import { openSafetensors, writeSafetensors } from "../../../lib/model/safetensors.ts";
import { cutPartition } from "../../../lib/par/partition.ts";
import { readPartition, rethreshold, writePartition } from "../../../lib/par/partition_file.ts";
import { assertRejects } from "../../asserts.ts";
import { normal, testGpu } from "../../gpu.ts";

// Shapes whose sizes are no multiples of four, so that tensors begin within a word.
const layout = layoutOfTensors(
  new Map([
    ["model.layers.0.self_attn.q_proj.lora_A.weight", [1, 7]],
    ["model.layers.0.self_attn.q_proj.lora_B.weight", [9, 1]],
    ["model.layers.0.mlp.down_proj.lora_A.weight", [1, 30]],
    ["model.layers.0.mlp.down_proj.lora_B.weight", [7, 1]],
    ["model.layers.10.self_attn.k_proj.lora_A.weight", [1, 7]],
    ["model.layers.10.self_attn.k_proj.lora_B.weight", [3, 1]],
    ["model.layers.2.self_attn.v_proj.lora_A.weight", [1, 700]],
    ["model.layers.2.self_attn.v_proj.lora_B.weight", [5, 1]],
  ]),
  "the test",
);
const { elements } = layout;
const initial = normal(elements, 3, 0.01);
const importance = [1, 2].map((seed) => normal(elements, seed).map(Math.abs));

async function makePartition(
  gpu: Gpu,
  folder: string,
  settings: { theta: number; alpha: number; beta: number },
) {
  const uploaded = {
    system1: gpu.upload("importance1", importance[0]),
    system2: gpu.upload("importance2", importance[1]),
  };
  const partition = await cutPartition(gpu, layout, uploaded, settings);
  const extra = { model: "tiny", lora: { r: 1 } };
  return await writePartition(gpu, folder, { layout, partition, initial }, extra);
}

async function inFolder(test: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "lorapar-test-" });
  try {
    await test(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("partition file: comes back as it was written, under the names of the API", () =>
  inFolder(async (folder) => {
    const gpu = await testGpu();
    const report = await makePartition(gpu, folder, { theta: 0.8, alpha: 0.5, beta: 1 });
    const stored = await readPartition(folder);
    assertEquals(stored.report, JSON.parse(JSON.stringify(report)));
    assertEquals(stored.report.model, "tiny");
    assertEquals(stored.layout.tensors, layout.tensors);
    assertEquals(stored.importance, { system1: importance[0], system2: importance[1] });
    assertEquals(stored.initial, initial);
    const count = (code: number) => stored.regions.filter((found) => found === code).length;
    const { inactive, system1_only, system2_only, shared } = stored.report.counts;
    assertEquals([0, 1, 2, 3].map(count), [inactive, system1_only, system2_only, shared]);

    const file = openSafetensors(`${folder}/partition.safetensors`);
    const names = layout.tensors.flatMap(({ name }) => [
      `${name}.importance.system1`,
      `${name}.importance.system2`,
      `${name}.initial`,
      `${name}.region`,
    ]);
    assertEquals([...file.tensors.keys()].sort(), names.sort());
    const { dtype, shape } = file.tensors.get(
      "model.layers.2.self_attn.v_proj.lora_A.weight.region",
    )!;
    file.close();
    assertEquals([dtype, shape], ["U8", [1, 700]]);
  }));

Deno.test("partition file: another theta gives the bytes of a fresh partition", () =>
  inFolder(async (folder) => {
    const gpu = await testGpu();
    await makePartition(gpu, `${folder}/first`, { theta: 0.8, alpha: 1, beta: 1 });
    const settings = { theta: 0.55, alpha: 0.3, beta: 0.7 };
    const fresh = await makePartition(gpu, `${folder}/fresh`, settings);
    const again = await rethreshold(gpu, `${folder}/first`, settings, `${folder}/again`);
    assertEquals(again, fresh);
    for (const name of ["partition.safetensors", "partition.json"]) {
      const bytes = await Deno.readFile(`${folder}/again/${name}`);
      assertEquals(bytes, await Deno.readFile(`${folder}/fresh/${name}`), name);
      const first = await Deno.readFile(`${folder}/first/${name}`);
      assert(!(first.length === bytes.length && first.every((byte, i) => byte === bytes[i])));
    }
  }));

Deno.test("partition file: a folder with a part missing or damaged is refused", () =>
  inFolder(async (folder) => {
    const gpu = await testGpu();
    await makePartition(gpu, folder, { theta: 0.8, alpha: 1, beta: 1 });
    const path = `${folder}/partition.safetensors`;
    const refused = (message: RegExp) =>
      assertRejects(
        readPartition(folder),
        (error: Error) => error instanceof InvalidFile && message.test(error.message),
      );
    const json = await Deno.readTextFile(`${folder}/partition.json`);
    await Deno.writeTextFile(`${folder}/partition.json`, "{");
    await refused(/partition\.json/);
    await Deno.writeTextFile(`${folder}/partition.json`, '{"theta":0.9}');
    await refused(/not a number/);
    await Deno.writeTextFile(`${folder}/partition.json`, json);

    const file = openSafetensors(path);
    const tensors = new Map([...file.tensors.keys()].map((name) => [name, file.read(name)]));
    file.close();
    const { name } = layout.tensors[0];
    const without = new Map(tensors);
    without.delete(`${name}.initial`);
    await writeSafetensors(path, without);
    await refused(/has none of that name/);
    tensors.set(`${name}.initial`, { dtype: "F32", shape: [8], bytes: new Uint8Array(32) });
    await writeSafetensors(path, tensors);
    await refused(/initial has 8 elements, wanted 7/);
    await Deno.truncate(path, 500);
    await refused(/partition\.safetensors/);
  }));
