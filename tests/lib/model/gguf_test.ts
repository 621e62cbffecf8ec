import { assert, assertEquals } from "@std/assert";
import { gguf } from "@huggingface/gguf";
import fc from "fast-check";
import { InvalidFile } from "../../../lib/errors.ts";
import type { ModelConfig } from "../../../lib/model/config.ts";
import { toFloat32 } from "../../../lib/model/floats.ts";
import { openGgufFile } from "../../../lib/model/gguf.ts";
import { openModel } from "../../../lib/model/open.ts";
import { assertRejects, assertThrows } from "../../asserts.ts";
import {
  ggufBytes,
  type GgufField,
  ggufFields,
  ggufTensors,
  type GgufTensorToWrite,
  inFolder,
  tinyConfig,
  tinyTokens,
  tinyValues,
  writeHfFolder,
} from "./tiny_model.ts";

/** Writes a model and says that it is refused with a message that names `word`. */
async function refused(
  path: string,
  word: string,
  fields: Record<string, GgufField>,
  tensors: Record<string, GgufTensorToWrite> = ggufTensors(),
): Promise<void> {
  await Deno.writeFile(path, ggufBytes(fields, tensors));
  await assertRejects(() => openModel(path), (error: Error) => {
    assert(error instanceof InvalidFile, `${error.name}: ${error.message}`);
    assert(error.message.includes(word), `${word} in: ${error.message}`);
    return true;
  });
}

Deno.test("gguf: the same model as its Hugging Face folder, q and k rows in their order", () =>
  inFolder(async (folder) => {
    const path = `${folder}/model.gguf`;
    for (const architecture of ["llama", "qwen2", "qwen3"] as const) {
      const config: ModelConfig = {
        ...tinyConfig,
        architecture,
        tieEmbeddings: architecture === "qwen2",
        qkvBias: architecture === "qwen2",
        qkNorm: architecture === "qwen3",
        // Read as f32 from the file.
        rmsNormEps: Math.fround(1e-5),
      };
      await Deno.writeFile(path, ggufBytes(ggufFields(config), ggufTensors(config)));
      await writeHfFolder(folder, config);
      const [found, wanted] = [await openModel(path), await openModel(folder)];
      assertEquals(found.config, wanted.config);
      assertEquals([...found.tensors.keys()], [...wanted.tensors.keys()]);
      for (const name of wanted.tensors.keys()) {
        assertEquals(await found.read(name), await wanted.read(name), name);
      }
      const text = "the 2024 hehe <|start|>é\n";
      assertEquals(found.tokenizer.encode(text), wanted.tokenizer.encode(text));
      found.close();
      wanted.close();
    }
  }));

Deno.test("gguf: quantised rows are expanded before q and k rows move", () =>
  inFolder(async (folder) => {
    const config = { ...tinyConfig, hiddenSize: 32, headSize: 16, intermediateSize: 32 };
    const tensors = ggufTensors(config);
    // Q8_0 with scale 1/4: row r of the file holds r / 4 throughout.
    const bytes = new Uint8Array(32 * 34);
    for (let row = 0; row < 32; row++) {
      bytes.set(new Uint8Array(Float16Array.of(0.25).buffer), row * 34);
      bytes.fill(row, row * 34 + 2, row * 34 + 34);
    }
    tensors["blk.0.attn_q.weight"] = { shape: [32, 32], type: 8, bytes };
    const path = `${folder}/model.gguf`;
    await Deno.writeFile(path, ggufBytes(ggufFields(config), tensors));
    const model = await openModel(path);
    const name = "model.layers.0.self_attn.q_proj.weight";
    const stored = await model.read(name);
    assertEquals([stored.dtype, stored.bytes.length], ["f16", model.tensors.get(name)!.sizeBytes]);
    // Of a head's 16 rows, the even ones of the file come first.
    const order = [0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15];
    const values = toFloat32(stored);
    for (let row = 0; row < 32; row++) {
      const from = row < 16 ? order[row] : 16 + order[row - 16];
      assert(values.subarray(row * 32, row * 32 + 32).every((x) => x === from / 4), `row ${row}`);
    }
    model.close();
  }));

/** What llama.cpp's converter writes for Llama 3's scaling (8192 positions, low 1, high 4). */
function ropeFactors(factor: number, headSize: number, theta: number): Float32Array {
  return Float32Array.from({ length: headSize / 2 }, (_, i) => {
    const wavelength = 2 * Math.PI * theta ** (2 * i / headSize);
    if (wavelength < 8192 / 4) return 1;
    if (wavelength > 8192) return factor;
    const smooth = (8192 / wavelength - 1) / 3;
    return 1 / ((1 - smooth) / factor + smooth);
  });
}

Deno.test("gguf: RoPE scalings", () =>
  inFolder(async (folder) => {
    const path = `${folder}/model.gguf`;
    const config = { ...tinyConfig, headSize: 64, ropeTheta: 500000 };
    const factors = ropeFactors(8, 64, 500000);
    assert(new Set(factors).size > 3, "no factor between the ends");
    const withFactors = (values: Float32Array) => ({
      ...ggufTensors(config),
      "rope_freqs.weight": { shape: [32], type: 0, bytes: new Uint8Array(values.slice().buffer) },
    });
    await Deno.writeFile(path, ggufBytes(ggufFields(config), withFactors(factors)));
    const model = await openModel(path);
    assertEquals(model.config.ropeScaling, {
      type: "llama3",
      factor: 8,
      lowFreqFactor: 1,
      highFreqFactor: 4,
      originalMaxPositions: 8192,
    });
    model.close();
    factors[16] *= 1.01;
    await refused(path, "rope_freqs.weight", ggufFields(config), withFactors(factors));
    const linear = {
      ...ggufFields(),
      "llama.rope.scaling.type": { string: "linear" },
      "llama.rope.scaling.factor": { f32: 4 },
    };
    await Deno.writeFile(path, ggufBytes(linear, ggufTensors()));
    const scaled = await openModel(path);
    assertEquals(scaled.config.ropeScaling, { type: "linear", factor: 4 });
    scaled.close();
    await refused(path, "yarn", { ...ggufFields(), "llama.rope.scaling.type": { string: "yarn" } });
  }));

Deno.test("gguf: models that are not computed here are refused by name", () =>
  inFolder(async (folder) => {
    const path = `${folder}/model.gguf`;
    const fields = ggufFields();
    const refusedWith = (word: string, change: Record<string, GgufField>) =>
      refused(path, word, { ...fields, ...change });
    await refusedWith("gemma", { "general.architecture": { string: "gemma" } });
    await refusedWith("expert_count", { "llama.expert_count": { u32: 8 } });
    await refusedWith("sliding_window", { "llama.attention.sliding_window": { u32: 4096 } });
    await refusedWith("value_length", { "llama.attention.value_length": { u32: 8 } });
    await refusedWith("block_count", { "llama.block_count": { u32: 0 } });
    await refusedWith("intermediate size is 150", { "llama.feed_forward_length": { u32: 150 } });
    const { "llama.attention.key_length": _k, "llama.attention.value_length": _v, ...unsaid } =
      fields;
    const three = { "llama.attention.head_count": { u32: 3 } };
    await refused(path, "8 does not divide by 3", { ...unsaid, ...three });
    await refusedWith("1000", { "llama.block_count": { u32: 4e9 } });
    await refusedWith("model.layers.2", { "llama.block_count": { u32: 3 } });
    await refusedWith("llama-gguf-split", { "split.count": { u32: 3 } });
    await refusedWith("tokenizer.ggml.pre", { "tokenizer.ggml.pre": { string: "tekken" } });
    await refusedWith("tokenizer.ggml.model", { "tokenizer.ggml.model": { string: "bert" } });
    await refusedWith("token_type", { "tokenizer.ggml.token_type": { i32s: [1] } });
    await refusedWith("eos_token_id", { "tokenizer.ggml.eos_token_id": { u32: 262 } });
    await refusedWith("special token 264", { "tokenizer.ggml.eos_token_id": { u32: 264 } });
    await refusedWith("general.alignment", { "general.alignment": { u32: 24 } });
    await refusedWith("1025 characters", {
      "tokenizer.ggml.tokens": {
        strings: tinyTokens.map((token, id) => id ? token : "x".repeat(1025)),
      },
    });
    const more = [...Array(265).keys()];
    await refusedWith("264", {
      "tokenizer.ggml.tokens": { strings: more.map((id) => `t${id}`) },
      "tokenizer.ggml.token_type": { i32s: more.map(() => 1) },
      "tokenizer.ggml.merges": { strings: [] },
    });
    const { "output_norm.weight": _, ...fewer } = ggufTensors();
    await refused(path, "model.norm.weight", fields, fewer);
    const bias = { shape: [8], type: 0, bytes: new Uint8Array(32) };
    await refused(path, "q_proj.bias", fields, { ...ggufTensors(), "blk.0.attn_q.bias": bias });
    await refused(path, "ggml type 10", fields, { ...ggufTensors(), x: { ...bias, type: 10 } });
    await refused(path, "multiple of Q4_0", fields, { ...ggufTensors(), x: { ...bias, type: 2 } });
  }));

Deno.test("gguf: unused and undefined tokens say nothing, as in llama.cpp", () =>
  inFolder(async (folder) => {
    const path = `${folder}/model.gguf`;
    const tokens = [...tinyTokens, "[PAD261]", "", "<unknown kind>"];
    const types = tokens.map((_, id) => id < 259 ? 1 : id < 261 ? 3 : [5, 5, 9][id - 261]);
    await Deno.writeFile(
      path,
      ggufBytes({
        ...ggufFields(),
        "tokenizer.ggml.tokens": { strings: tokens },
        "tokenizer.ggml.token_type": { i32s: types },
      }, ggufTensors()),
    );
    const { tokenizer, close } = await openModel(path);
    close();
    const ids = [104, 261, 262, 256, 263, 260];
    assertEquals(tokenizer.decode(ids), "hhe<|end|>");
    const stream = tokenizer.streamDecoder();
    assertEquals(ids.map((id) => stream.push(id)), ["h", "", "", "he", "", ""]);
    // They are no special tokens: their names in a text are text.
    assertEquals(
      tokenizer.decode(tokenizer.encode("[PAD261] [EMPTY_262]")),
      "[PAD261] [EMPTY_262]",
    );
  }));

Deno.test("gguf: metadata and tensor table agree with @huggingface/gguf", () =>
  inFolder(async (folder) => {
    const path = `${folder}/model.gguf`;
    await Deno.writeFile(
      path,
      ggufBytes(
        {
          ...ggufFields(),
          "general.alignment": { u32: 64 },
        },
        ggufTensors(),
        64,
      ),
    );
    const wanted = await gguf(path, { allowLocalFile: true });
    const found = openGgufFile(path);
    for (const [key, value] of found.metadata) {
      const plain = ArrayBuffer.isView(value) ? [...value as unknown as number[]] : value;
      assertEquals(plain, (wanted.metadata as unknown as Record<string, unknown>)[key], key);
    }
    assertEquals(found.tensors.size, wanted.tensorInfos.length);
    for (const info of wanted.tensorInfos) {
      const { shape, begin } = found.tensors.get(info.name)!;
      assertEquals(shape, info.shape.map(Number).reverse());
      assertEquals(begin, Number(wanted.tensorDataOffset + info.offset), info.name);
    }
    found.close();
  }));

Deno.test("gguf: counts that lie are refused before memory is taken for them", () =>
  inFolder((folder) => {
    const path = `${folder}/x.gguf`;
    const whole = ggufBytes({ a: { strings: ["b", "c"] } }, {
      t: { shape: [2, 3], type: 0, bytes: new Uint8Array(24) },
    });
    const view = new DataView(whole.buffer);
    // Positions: tensors 8, fields 16, key's length 24, type 33, array type 37, array length 41,
    // string's length 49, then the tensor's entry: name 67, rank 76, sizes 80 and 88, type 96, offset 100.
    assertEquals([view.getUint32(33, true), view.getUint32(76, true)], [9, 2]);
    const opens = () => openGgufFile(path).close();
    Deno.writeFileSync(path, whole);
    opens();
    for (const at of [8, 16, 24, 41, 49, 67, 80, 88, 100]) {
      for (const lie of [2n ** 64n - 1n, 2n ** 53n, 2n ** 32n, 10n ** 6n]) {
        const bytes = whole.slice();
        new DataView(bytes.buffer).setBigUint64(at, lie, true);
        Deno.writeFileSync(path, bytes);
        assertThrows(opens, InvalidFile, `${lie} at ${at}`);
      }
    }
    for (const [at, lie] of [[0, 0], [4, 1], [4, 4], [4, 3 << 24], [33, 13], [37, 13], [76, 5]]) {
      const bytes = whole.slice();
      new DataView(bytes.buffer).setUint32(at, lie, true);
      Deno.writeFileSync(path, bytes);
      assertThrows(opens, InvalidFile, `${lie} at ${at}`);
    }
  }));

Deno.test("gguf: a cut file is refused, a damaged header never does worse", () =>
  inFolder(async (folder) => {
    const path = `${folder}/x.gguf`;
    const config = { ...tinyConfig, layers: 1 };
    const whole = ggufBytes(ggufFields(config), ggufTensors(config));
    Deno.writeFileSync(path, whole);
    const file = openGgufFile(path);
    const headerBytes = Math.min(...[...file.tensors.values()].map(({ begin }) => begin));
    file.close();
    const cut = fc.nat(whole.length - 1);
    await fc.assert(
      fc.asyncProperty(cut, async (size) => {
        Deno.writeFileSync(path, whole.subarray(0, size));
        await assertRejects(() => openModel(path), InvalidFile);
      }),
      { numRuns: 150, examples: [[0], [3], [23], [24], [headerBytes], [whole.length - 1]] },
    );
    let refused = 0;
    const damage = fc.array(fc.tuple(fc.nat(headerBytes - 1), fc.nat(255)), {
      minLength: 1,
      maxLength: 6,
    });
    await fc.assert(
      fc.asyncProperty(damage, async (changes) => {
        const bytes = whole.slice();
        for (const [at, byte] of changes) bytes[at] = byte;
        Deno.writeFileSync(path, bytes);
        try {
          const model = await openModel(path);
          for (const name of model.tensors.keys()) await model.read(name);
          model.tokenizer.encode("the 12 é");
          model.close();
        } catch (error) {
          if (!(error instanceof InvalidFile)) throw error;
          refused++;
        }
      }),
      { numRuns: 300 },
    );
    assert(refused > 150, `only ${refused} of 300 damaged headers were refused`);
  }));

Deno.test("gguf: NaN in an expanded tensor is found when it is read", () =>
  inFolder(async (folder) => {
    const path = `${folder}/x.gguf`;
    const tensors = ggufTensors();
    const values = tinyValues("x", 8);
    values[5] = NaN;
    tensors["output_norm.weight"] = {
      shape: [8],
      type: 0,
      bytes: new Uint8Array(values.buffer),
    };
    await Deno.writeFile(path, ggufBytes(ggufFields(), tensors));
    const model = await openModel(path);
    await assertRejects(() => model.read("model.norm.weight"), InvalidFile);
    model.close();
  }));
