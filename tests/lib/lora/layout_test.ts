import { assertEquals, assertStrictEquals } from "@std/assert";
import { InvalidFile } from "../../../lib/errors.ts";
import { layoutOfTensors, loraLayout, loraScale } from "../../../lib/lora/layout.ts";
import { parseHfConfig } from "../../../lib/model/hf_config.ts";
import { openSafetensors } from "../../../lib/model/safetensors.ts";
import { assertThrows } from "../../asserts.ts";

const golden = new URL("../../golden/", import.meta.url).pathname;
const readJson = (path: string) => JSON.parse(Deno.readTextFileSync(path));

for (const name of ["llama_gqa_tied", "llama_untied", "qwen2", "qwen3"]) {
  Deno.test(`layout: ${name} has PyTorch's flat order, from settings and from names`, () => {
    const values = readJson(`${golden}${name}/values.json`);
    const { r, target_modules } = readJson(`${golden}${name}/adapter/adapter_config.json`);
    const config = parseHfConfig(readJson(`${golden}${name}/model/config.json`), null, name);
    const layout = loraLayout(config, { r, target_modules: target_modules.reverse() });
    assertStrictEquals(layout.elements, values.lora_elements);
    const found = layout.tensors.map(({ name, rows, columns, offset }) => ({
      name: `base_model.model.${name}`,
      shape: [rows, columns],
      offset,
    }));
    assertEquals(found, values.lora_layout);

    const file = openSafetensors(`${golden}${name}/adapter/adapter_model.safetensors`);
    const shapes = new Map(
      [...file.tensors].reverse().map((
        [name, { shape }],
      ) => [name.replace("base_model.model.", ""), shape]),
    );
    file.close();
    const fromNames = layoutOfTensors(shapes, "the test");
    assertEquals(fromNames.tensors, layout.tensors);
    assertEquals([fromNames.r, fromNames.elements], [layout.r, layout.elements]);
    for (const { layer, projection, matrix, offset, rows, columns } of layout.tensors) {
      const pair = layout.pair(layer, projection)!;
      assertEquals(fromNames.pair(layer, projection), pair);
      if (matrix === "A") assertEquals([pair.offsetA, r, pair.inputs], [offset, rows, columns]);
      else assertEquals([pair.offsetB, pair.outputs, r], [offset, rows, columns]);
    }
    assertStrictEquals(layout.pair(config.layers, "q_proj"), null);
    if (name !== "llama_untied") assertStrictEquals(layout.pair(0, "o_proj"), null);
  });
}

Deno.test("layout: the scale is alpha / r, or alpha / sqrt(r) with rsLoRA", () => {
  assertStrictEquals(loraScale({ r: 16, lora_alpha: 64, use_rslora: false }), 4);
  assertStrictEquals(loraScale({ r: 16, lora_alpha: 64, use_rslora: true }), 16);
});

Deno.test("layout: names and shapes that are no adapter are refused", () => {
  const q = "model.layers.0.self_attn.q_proj.lora_";
  const cases: [Record<string, number[]>, RegExp][] = [
    [{}, /holds no LoRA matrix/],
    [{ [`${q}C.weight`]: [2, 4] }, /is not the name/],
    [{ [`${q}A.weight`]: [2, 4] }, /lacks lora_B\.weight/],
    [{ [`${q}B.weight`]: [4, 2] }, /lacks lora_A\.weight/],
    [{ [`${q}A.weight`]: [2, 4], [`${q}B.weight`]: [4, 3] }, /has rank 3, another tensor has 2/],
    [{ [`${q}A.weight`]: [8], [`${q}B.weight`]: [4, 2] }, /has the shape \(8\)/],
  ];
  for (const [shapes, message] of cases) {
    assertThrows(() => layoutOfTensors(new Map(Object.entries(shapes)), "x"), (error: Error) => {
      assertStrictEquals(error instanceof InvalidFile && message.test(error.message), true);
      return true;
    });
  }
});
