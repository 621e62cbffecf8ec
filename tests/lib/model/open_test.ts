import { assert, assertEquals } from "@std/assert";
import { InvalidFile } from "../../../lib/errors.ts";
import { projectionPath } from "../../../lib/model/config.ts";
import { toFloat32 } from "../../../lib/model/floats.ts";
import { openHfFolder, openModel, openWeights } from "../../../lib/model/open.ts";
import { whyUnusable } from "../../../lib/model/usable.ts";
import { writeSafetensors } from "../../../lib/model/safetensors.ts";
import { assertRejects } from "../../asserts.ts";
import {
  hfConfigJson,
  inFolder,
  tinyConfig,
  tinyTensors,
  tinyTokenizerJson,
  tinyValues,
  writeHfFolder,
} from "./tiny_model.ts";

/** That a model is refused with a message that names all of `words`. */
const refused = (path: string, ...words: string[]) =>
  assertRejects(() => openModel(path), (error: Error) => {
    assert(error instanceof InvalidFile, `${error.name}: ${error.message}`);
    for (const word of words) assert(error.message.includes(word), `${word} in: ${error.message}`);
    return true;
  });

Deno.test("open: a Hugging Face folder, every tensor as stored", () =>
  inFolder(async (folder) => {
    for (const architecture of ["llama", "qwen2", "qwen3"] as const) {
      const config = {
        ...tinyConfig,
        architecture,
        tieEmbeddings: architecture === "llama",
        qkvBias: architecture === "qwen2",
        qkNorm: architecture === "qwen3",
      };
      await writeHfFolder(folder, config);
      const model = await openModel(folder);
      assertEquals(model.config, config);
      assertEquals(model.tensors.has("lm_head.weight"), !config.tieEmbeddings);
      for (const [name, { shape, sizeBytes }] of model.tensors) {
        const stored = await model.read(name);
        assertEquals([stored.dtype, stored.shape, stored.bytes.length], ["f32", shape, sizeBytes]);
        assertEquals(toFloat32(stored), tinyValues(name, sizeBytes / 4), name);
      }
      model.close();
    }
  }));

Deno.test("open: weights alone, whatever the tokenizer's files are", () =>
  inFolder(async (folder) => {
    await writeHfFolder(folder, tinyConfig);
    const whole = await openModel(folder);
    await Deno.writeTextFile(`${folder}/tokenizer.json`, "no JSON");
    await assertRejects(openModel(folder), InvalidFile);
    const weights = await openWeights(folder);
    assertEquals(weights.config, whole.config);
    assertEquals([...weights.tensors.keys()], [...whole.tensors.keys()]);
    assertEquals(weights.digest(), whole.digest());
    whole.close();
    weights.close();
  }));

Deno.test("open: shards, f16 and bf16 as stored", () =>
  inFolder(async (folder) => {
    await writeHfFolder(folder, tinyConfig, null);
    const shards = [new Map(), new Map()];
    const weight_map: Record<string, string> = {};
    [...tinyTensors(tinyConfig)].forEach(([name, { shape, bytes }], i) => {
      const values = bytes as Float32Array;
      const upper = Uint16Array.from(new Uint32Array(values.buffer), (word) => word >>> 16);
      shards[i % 2].set(
        name,
        i % 2
          ? { dtype: "BF16", shape, bytes: upper }
          : { dtype: "F16", shape, bytes: new Float16Array(values) },
      );
      weight_map[name] = `part${i % 2}.safetensors`;
    });
    await writeSafetensors(`${folder}/part0.safetensors`, shards[0]);
    await writeSafetensors(`${folder}/part1.safetensors`, shards[1]);
    const index = `${folder}/model.safetensors.index.json`;
    await Deno.writeTextFile(index, JSON.stringify({ weight_map }));
    const model = await openModel(folder);
    const dtypes = new Set<string>();
    for (const name of model.tensors.keys()) {
      const stored = await model.read(name);
      dtypes.add(stored.dtype);
      assertEquals(toFloat32(stored), tinyValues(name, stored.bytes.length / 2), name);
    }
    assertEquals([...dtypes].sort(), ["bf16", "f16"]);
    model.close();

    await Deno.writeTextFile(index, JSON.stringify({ weight_map: { a: "../x.safetensors" } }));
    await refused(folder, "weight_map", "../x.safetensors");
    await Deno.remove(index);
    await refused(folder, "model.safetensors.index.json");
  }));

Deno.test("open: missing, misshapen, foreign and damaged tensors are named", () =>
  inFolder(async (folder) => {
    const key = `${projectionPath(1, "k_proj")}.weight`;
    const write = async (change: (tensors: ReturnType<typeof tinyTensors>) => void) => {
      const tensors = tinyTensors(tinyConfig);
      change(tensors);
      await writeHfFolder(folder, tinyConfig, tensors);
    };
    await write((tensors) => tensors.delete(key));
    await refused(folder, key, "missing", "(4, 8)");
    await write((tensors) =>
      tensors.set(key, { dtype: "F32", shape: [8, 4], bytes: new Float32Array(32) })
    );
    await refused(folder, key, "(8, 4)", "(4, 8)");
    await write((tensors) =>
      tensors.set(key, { dtype: "I32", shape: [4, 8], bytes: new Int32Array(32) })
    );
    await refused(folder, key, "I32");
    const bias = `${projectionPath(0, "q_proj")}.bias`;
    await write((tensors) =>
      tensors.set(bias, { dtype: "F32", shape: [8], bytes: new Float32Array(8) })
    );
    await refused(folder, bias);
    for (const [bad, dtype] of [[NaN, "F32"], [Infinity, "F16"], [-Infinity, "F32"]] as const) {
      await write((tensors) => {
        const values = tinyValues(key, 32);
        values[17] = bad;
        const bytes = dtype === "F32" ? values : new Float16Array(values);
        tensors.set(key, { dtype, shape: [4, 8], bytes });
      });
      const model = await openModel(folder);
      await assertRejects(() => model.read(key), (error: Error) => {
        assert(error instanceof InvalidFile && error.message.includes(key));
        return error.message.includes("element 17");
      });
      await model.read("model.norm.weight");
      model.close();
    }
    await writeHfFolder(folder, { ...tinyConfig, tieEmbeddings: false }, tinyTensors(tinyConfig));
    await refused(folder, "lm_head.weight", "missing");
    await refused(`${folder}/nowhere`, "nowhere");
  }));

Deno.test("open: tie_word_embeddings gives way to a head of its own, as in Transformers 5", () =>
  inFolder(async (folder) => {
    const [embedding, head] = ["model.embed_tokens.weight", "lm_head.weight"];
    const open = async (change: (tensors: ReturnType<typeof tinyTensors>) => void) => {
      const tensors = tinyTensors(tinyConfig);
      change(tensors);
      await writeHfFolder(folder, tinyConfig, tensors);
      const model = await openModel(folder);
      const read = async (name: string) =>
        model.tensors.has(name) ? toFloat32(await model.read(name)) : null;
      const found = {
        tied: model.config.tieEmbeddings,
        embedding: await read(embedding),
        head: await read(head),
      };
      model.close();
      return found;
    };
    const stored = tinyValues(embedding, 264 * 8);
    assertEquals(await open(() => {}), { tied: true, embedding: stored, head: null });
    const copied = await open((tensors) => tensors.set(head, tensors.get(embedding)!));
    assertEquals(copied, { tied: true, embedding: stored, head: null });
    const other = tinyValues(embedding, 264 * 8);
    other[264 * 8 - 1] += 1;
    const separate = await open((tensors) =>
      tensors.set(head, { dtype: "F32", shape: [264, 8], bytes: other })
    );
    assertEquals(separate, { tied: false, embedding: stored, head: other });
    const alone = await open((tensors) => {
      tensors.set(head, tensors.get(embedding)!);
      tensors.delete(embedding);
    });
    assertEquals(alone, { tied: true, embedding: stored, head: null });
    const tensors = tinyTensors(tinyConfig);
    tensors.set(head, { dtype: "F32", shape: [8, 264], bytes: other });
    await writeHfFolder(folder, tinyConfig, tensors);
    await refused(folder, head, "(8, 264)", "(264, 8)");
    assert(whyUnusable(folder)!.includes("(8, 264)"));
  }));

Deno.test("open: a tokenizer that is missing or of another model is refused", () =>
  inFolder(async (folder) => {
    await writeHfFolder(folder);
    const path = `${folder}/tokenizer.json`;
    const json = tinyTokenizerJson();
    const vocab = (json.model as { vocab: Record<string, number> }).vocab;
    vocab["zz"] = 264;
    await Deno.writeTextFile(path, JSON.stringify(json));
    await refused(folder, "zz", "264", "263");
    vocab["zz"] = -1;
    await Deno.writeTextFile(path, JSON.stringify(json));
    await refused(folder, "zz", "-1");
    for (const text of ["{", "[]", "{}", '{"model":{"type":"BPE","vocab":{"a":0}}}']) {
      await Deno.writeTextFile(path, text);
      await refused(folder, "tokenizer");
    }
    await Deno.remove(path);
    await refused(folder, "tokenizer.json");
  }));

Deno.test("open: the golden models", async () => {
  for (const name of ["llama_gqa_tied", "llama_untied", "qwen2", "qwen3"]) {
    const folder = new URL(`../../golden/${name}/model`, import.meta.url).pathname;
    // They have no tokenizer; only the ends of the tiny one's vocabulary are looked at.
    const model = openHfFolder(folder, (_, { eosTokens }) => ({ eosTokens }) as never);
    for (const tensor of model.tensors.keys()) await model.read(tensor);
    assertEquals(model.config.eosTokens.length, 1);
    model.close();
  }
});

Deno.test("open: config fields that ask for something else are refused by name", () =>
  inFolder(async (folder) => {
    await writeHfFolder(folder);
    const wrong: [string, Record<string, unknown>][] = [
      ["MixtralForCausalLM", { architectures: ["MixtralForCausalLM"] }],
      ["hidden_act", { hidden_act: "gelu" }],
      ["attention_bias", { attention_bias: true }],
      ["mlp_bias", { mlp_bias: true }],
      ["use_sliding_window", { use_sliding_window: true }],
      ["sliding_attention", { layer_types: ["full_attention", "sliding_attention"] }],
      ["yarn", { rope_scaling: { type: "yarn", factor: 4 } }],
      ["dynamic", { rope_parameters: { rope_type: "dynamic", rope_theta: 1e4, factor: 2 } }],
      ["low_freq_factor", { rope_scaling: { rope_type: "llama3", factor: 8 } }],
      ["partial_rotary_factor", { partial_rotary_factor: 0.5 }],
      ["quantization_config", { quantization_config: { quant_method: "gptq" } }],
      ["hidden_size", { hidden_size: undefined }],
      ["num_attention_heads", { num_attention_heads: "two" }],
      ["rms_norm_eps", { rms_norm_eps: 0 }],
      ["3 heads", { num_attention_heads: 3, num_key_value_heads: 2 }],
      ["odd", { head_dim: 5 }],
      ["1000", { num_hidden_layers: 1e9 }],
      ["eos_token_id", { eos_token_id: 264 }],
      ["special token 999", { bos_token_id: 999 }],
    ];
    for (const [word, change] of wrong) {
      const json = JSON.stringify({ ...hfConfigJson(tinyConfig), ...change });
      await Deno.writeTextFile(`${folder}/config.json`, json);
      await refused(folder, word);
    }
  }));
