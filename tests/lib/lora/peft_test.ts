import { assert, assertEquals } from "@std/assert";
import { InvalidFile } from "../../../lib/errors.ts";
import { type PeftTensor, readPeftAdapter, writePeftAdapter } from "../../../lib/lora/peft.ts";
import { openSafetensors, writeSafetensors } from "../../../lib/model/safetensors.ts";
import { assertThrows } from "../../asserts.ts";

async function inFolder(test: (folder: string) => Promise<void> | void): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "lorapar-test-" });
  try {
    await test(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

const settings = {
  baseModel: "models/tiny",
  r: 2,
  loraAlpha: 16,
  loraDropout: 0.05,
  targetModules: ["q_proj", "down_proj"],
  useRslora: true,
  initLoraWeights: true,
};
const q = "model.layers.0.self_attn.q_proj.lora_";
const down = "model.layers.0.mlp.down_proj.lora_";
const tensors = (): Map<string, PeftTensor> =>
  new Map([
    [`${q}A.weight`, { shape: [2, 4], data: Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8) }],
    [`${q}B.weight`, { shape: [3, 2], data: Float32Array.of(-1, -2, -3, -4, -5, 1e-8) }],
    [`${down}A.weight`, { shape: [2, 1], data: Float32Array.of(0.5, 0.25) }],
    [`${down}B.weight`, { shape: [1, 2], data: Float32Array.of(9, 10) }],
  ]);

Deno.test("peft: an adapter comes back as it was written, under PEFT's names", () =>
  inFolder(async (folder) => {
    const adapter = `${folder}/a/b`;
    await writePeftAdapter(adapter, settings, tensors());
    const read = readPeftAdapter(adapter);
    assertEquals(read.settings, settings);
    assertEquals(read.tensors, new Map([...tensors()].sort(([a], [b]) => a < b ? -1 : 1)));

    const file = openSafetensors(`${adapter}/adapter_model.safetensors`);
    assertEquals(
      [...file.tensors.keys()].sort(),
      [...tensors().keys()].map((name) => `base_model.model.${name}`).sort(),
    );
    assertEquals(file.metadata, { format: "pt" });
    file.close();
    const config = JSON.parse(Deno.readTextFileSync(`${adapter}/adapter_config.json`));
    assertEquals(
      [config.peft_type, config.task_type, config.r, config.lora_alpha, config.lora_dropout],
      ["LORA", "CAUSAL_LM", 2, 16, 0.05],
    );
    assertEquals(
      [config.bias, config.use_rslora, config.use_dora, config.base_model_name_or_path],
      ["none", true, false, "models/tiny"],
    );
    assertEquals(config.target_modules, ["q_proj", "down_proj"]);
  }));

Deno.test("peft: adapters that PEFT saved", () => {
  for (const name of ["llama_gqa_tied", "llama_untied", "qwen2", "qwen3"]) {
    const folder = new URL(`../../golden/${name}/adapter`, import.meta.url).pathname;
    const config = JSON.parse(Deno.readTextFileSync(`${folder}/adapter_config.json`));
    const adapter = readPeftAdapter(folder);
    assertEquals(adapter.settings.targetModules.toSorted(), config.target_modules.toSorted());
    assertEquals([adapter.settings.r, adapter.settings.loraAlpha], [config.r, config.lora_alpha]);
    assertEquals(adapter.settings.useRslora, config.use_rslora);
    for (const [tensor, { shape, data }] of adapter.tensors) {
      assert(tensor.startsWith("model.layers."));
      assertEquals(shape[tensor.endsWith("lora_A.weight") ? 0 : 1], config.r);
      assertEquals(data.length, shape[0] * shape[1]);
    }
  }
});

Deno.test("peft: what is no plain LoRA is refused by name", () =>
  inFolder(async (folder) => {
    const refused = (word: string) =>
      assertThrows(() => readPeftAdapter(folder), (error: Error) => {
        assert(error instanceof InvalidFile, `${error.name}: ${error.message}`);
        assert(error.message.includes(word), `${word} in: ${error.message}`);
        return true;
      });
    await writePeftAdapter(folder, settings, tensors());
    const path = `${folder}/adapter_config.json`;
    const config = JSON.parse(Deno.readTextFileSync(path));
    const wrong: Record<string, unknown> = {
      peft_type: "IA3",
      bias: "all",
      use_dora: true,
      lora_bias: true,
      rank_pattern: { q_proj: 4 },
      alpha_pattern: { q_proj: 4 },
      modules_to_save: ["lm_head"],
      layers_to_transform: [0],
      trainable_token_indices: [1],
      init_lora_weights: "pissa_niter_4",
      r: 0,
      lora_alpha: "8",
      lora_dropout: 1,
    };
    for (const [field, value] of Object.entries(wrong)) {
      Deno.writeTextFileSync(path, JSON.stringify({ ...config, [field]: value }));
      refused(field);
    }
    Deno.writeTextFileSync(path, JSON.stringify({ ...config, r: 3 }));
    refused("r 3");
    Deno.removeSync(path);
    refused("adapter_config.json");

    const write = async (change: (map: Map<string, PeftTensor>) => void) => {
      const map = tensors();
      change(map);
      await writePeftAdapter(folder, settings, map);
    };
    await write((map) => map.delete(`${down}B.weight`));
    refused(`${down}B.weight`);
    await write((map) => map.get(`${q}B.weight`)!.data[3] = NaN);
    refused("element 3");
    await write((map) => map.set("model.embed_tokens.lora_embedding_A", map.get(`${q}A.weight`)!));
    refused("lora_embedding_A");
    await write((map) => map.clear());
    refused("no LoRA factors");
    await Deno.remove(`${folder}/adapter_model.safetensors`);
    refused("adapter_model.safetensors");
  }));

Deno.test("peft: f16 and bf16 factors are widened", () =>
  inFolder(async (folder) => {
    await writePeftAdapter(folder, settings, tensors());
    const half = (x: number[]) => new Float16Array(x);
    await writeSafetensors(
      `${folder}/adapter_model.safetensors`,
      new Map([
        [`base_model.model.${q}A.weight`, { dtype: "F16", shape: [2, 1], bytes: half([1, 0.1]) }],
        [`base_model.model.${q}B.weight`, {
          dtype: "BF16",
          shape: [1, 2],
          bytes: Uint16Array.of(0x3f80, 0xc000),
        }],
      ]),
    );
    const read = readPeftAdapter(folder);
    assertEquals(read.tensors.get(`${q}A.weight`)!.data, Float32Array.of(1, Math.f16round(0.1)));
    assertEquals(read.tensors.get(`${q}B.weight`)!.data, Float32Array.of(1, -2));
    assertEquals(read.settings.targetModules, ["q_proj"]);
  }));
