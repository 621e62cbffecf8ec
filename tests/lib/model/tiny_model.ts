// Models of a few kilobytes, written on the fly as a Hugging Face folder or a GGUF file.
// The GGUF writer follows ggml's docs/gguf.md and llama.cpp's converter (names, q and k rows).

import { type ModelConfig, projectionPath } from "../../../lib/model/config.ts";
import { modelTensors } from "../../../lib/model/model_source.ts";
import { type TensorToWrite, writeSafetensors } from "../../../lib/model/safetensors.ts";

export const tinyConfig: ModelConfig = {
  architecture: "llama",
  vocabSize: 264,
  hiddenSize: 8,
  intermediateSize: 12,
  layers: 2,
  heads: 2,
  kvHeads: 1,
  headSize: 4,
  rmsNormEps: 1e-5,
  ropeTheta: 10000,
  ropeScaling: null,
  maxPositions: 128,
  tieEmbeddings: true,
  qkvBias: false,
  qkNorm: false,
  bosToken: 259,
  eosTokens: [260],
};

export const template =
  "{% for m in messages %}{{ '<|start|>' + m['role'] + '\\n' + m['content'] + '<|end|>' }}" +
  "{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant\\n' }}{% endif %}";

/** GPT-2's 256 byte characters, in the order of the bytes. */
export const byteAlphabet: string[] = [];
for (let byte = 0, next = 256; byte < 256; byte++) {
  const printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  byteAlphabet.push(String.fromCodePoint(printable ? byte : next++));
}

/** 0-255 bytes; 256 "he", 257 "Ġt", 258 "Ġthe"; 259 <|start|>, 260 <|end|> (special). */
export const tinyTokens = [...byteAlphabet, "he", "Ġt", "Ġthe", "<|start|>", "<|end|>"];
export const tinyMerges = ["h e", "Ġ t", "Ġt he"];

export function tinyTokenizerJson(): Record<string, unknown> {
  return {
    version: "1.0",
    added_tokens: [259, 260].map((id) => ({
      id,
      content: tinyTokens[id],
      special: true,
      normalized: false,
    })),
    normalizer: null,
    pre_tokenizer: {
      type: "Sequence",
      pretokenizers: [
        { type: "Digits", individual_digits: true },
        { type: "ByteLevel", add_prefix_space: false, use_regex: true },
      ],
    },
    post_processor: null,
    decoder: { type: "ByteLevel" },
    model: {
      type: "BPE",
      vocab: Object.fromEntries(tinyTokens.map((token, id) => [token, id])),
      merges: [...tinyMerges],
    },
  };
}

/** Small, different, exactly representable in every float type. */
export function tinyValues(name: string, count: number): Float32Array<ArrayBuffer> {
  let seed = [...name].reduce((sum, c) => (sum * 31 + c.charCodeAt(0)) >>> 0, 7);
  return Float32Array.from({ length: count }, () => {
    seed = (seed * 1664525 + 1013904223) >>> 0;
    return ((seed >>> 24) - 128) / 128;
  });
}

export function tinyTensors(config: ModelConfig): Map<string, TensorToWrite> {
  return new Map(
    [...modelTensors(config)].map(([name, shape]) => {
      const values = tinyValues(name, shape.reduce((a, b) => a * b, 1));
      return [name, { dtype: "F32", shape, bytes: values }] as const;
    }),
  );
}

export function hfConfigJson(config: ModelConfig): Record<string, unknown> {
  const name = { llama: "Llama", qwen2: "Qwen2", qwen3: "Qwen3" }[config.architecture];
  return {
    architectures: [`${name}ForCausalLM`],
    model_type: config.architecture,
    vocab_size: config.vocabSize,
    hidden_size: config.hiddenSize,
    intermediate_size: config.intermediateSize,
    num_hidden_layers: config.layers,
    num_attention_heads: config.heads,
    num_key_value_heads: config.kvHeads,
    head_dim: config.headSize,
    hidden_act: "silu",
    rms_norm_eps: config.rmsNormEps,
    rope_theta: config.ropeTheta,
    max_position_embeddings: config.maxPositions,
    tie_word_embeddings: config.tieEmbeddings,
    bos_token_id: config.bosToken,
    eos_token_id: config.eosTokens[0],
  };
}

/** Writes config.json, the tokenizer and, unless `tensors` is null, model.safetensors. */
export async function writeHfFolder(
  folder: string,
  config = tinyConfig,
  tensors: Map<string, TensorToWrite> | null = tinyTensors(config),
): Promise<void> {
  const write = (name: string, value: unknown) =>
    Deno.writeTextFile(`${folder}/${name}`, JSON.stringify(value));
  await Deno.mkdir(folder, { recursive: true });
  await write("config.json", hfConfigJson(config));
  await write("tokenizer.json", tinyTokenizerJson());
  await write("tokenizer_config.json", {
    bos_token: "<|start|>",
    eos_token: { content: "<|end|>" },
    chat_template: template,
  });
  if (tensors) await writeSafetensors(`${folder}/model.safetensors`, tensors);
}

/** A metadata value with its GGUF type. */
export type GgufField =
  | { u32: number }
  | { f32: number }
  | { bool: boolean }
  | { string: string }
  | { strings: string[] }
  | { i32s: number[] }
  | { f32s: number[] };

export interface GgufTensorToWrite {
  /** Row-major. */
  shape: number[];
  type: number;
  bytes: Uint8Array;
}

/** The bytes of a GGUF version 3 file. */
export function ggufBytes(
  fields: Record<string, GgufField>,
  tensors: Record<string, GgufTensorToWrite>,
  alignment = 32,
): Uint8Array<ArrayBuffer> {
  const out: number[] = [];
  const u32 = (n: number) => out.push(n & 255, (n >> 8) & 255, (n >> 16) & 255, (n >>> 24) & 255);
  const u64 = (n: number) => (u32(n % 2 ** 32), u32(Math.floor(n / 2 ** 32)));
  const f32 = (x: number) => u32(new Uint32Array(new Float32Array([x]).buffer)[0]);
  const string = (text: string) => {
    const bytes = new TextEncoder().encode(text);
    u64(bytes.length);
    out.push(...bytes);
  };
  const pad = () => {
    while (out.length % alignment) out.push(0);
  };
  u32(0x46554747);
  u32(3);
  u64(Object.keys(tensors).length);
  u64(Object.keys(fields).length);
  for (const [key, field] of Object.entries(fields)) {
    string(key);
    if ("u32" in field) (u32(4), u32(field.u32));
    if ("f32" in field) (u32(6), f32(field.f32));
    if ("bool" in field) (u32(7), out.push(Number(field.bool)));
    if ("string" in field) (u32(8), string(field.string));
    if ("strings" in field) {
      (u32(9), u32(8), u64(field.strings.length), field.strings.forEach(string));
    }
    if ("i32s" in field) (u32(9), u32(5), u64(field.i32s.length), field.i32s.forEach(u32));
    if ("f32s" in field) (u32(9), u32(6), u64(field.f32s.length), field.f32s.forEach(f32));
  }
  let offset = 0;
  for (const [name, { shape, type, bytes }] of Object.entries(tensors)) {
    string(name);
    u32(shape.length);
    shape.toReversed().forEach(u64);
    u32(type);
    u64(offset);
    offset += Math.ceil(bytes.length / alignment) * alignment;
  }
  for (const { bytes } of Object.values(tensors)) {
    pad();
    for (const byte of bytes) out.push(byte);
  }
  return Uint8Array.from(out);
}

/** Metadata of a tiny model with the tiny byte-level tokenizer. */
export function ggufFields(config = tinyConfig): Record<string, GgufField> {
  const a = config.architecture;
  return {
    "general.architecture": { string: a },
    [`${a}.block_count`]: { u32: config.layers },
    [`${a}.context_length`]: { u32: config.maxPositions },
    [`${a}.embedding_length`]: { u32: config.hiddenSize },
    [`${a}.feed_forward_length`]: { u32: config.intermediateSize },
    [`${a}.attention.head_count`]: { u32: config.heads },
    [`${a}.attention.head_count_kv`]: { u32: config.kvHeads },
    [`${a}.attention.key_length`]: { u32: config.headSize },
    [`${a}.attention.value_length`]: { u32: config.headSize },
    [`${a}.attention.layer_norm_rms_epsilon`]: { f32: config.rmsNormEps },
    [`${a}.rope.freq_base`]: { f32: config.ropeTheta },
    "tokenizer.ggml.model": { string: "gpt2" },
    "tokenizer.ggml.pre": { string: "smollm" },
    "tokenizer.ggml.tokens": { strings: tinyTokens },
    "tokenizer.ggml.token_type": { i32s: tinyTokens.map((_, id) => id >= 259 ? 3 : 1) },
    "tokenizer.ggml.merges": { strings: tinyMerges },
    "tokenizer.ggml.bos_token_id": { u32: 259 },
    "tokenizer.ggml.eos_token_id": { u32: 260 },
    "tokenizer.ggml.add_bos_token": { bool: false },
    "tokenizer.chat_template": { string: template },
  };
}

const ggufNames: [string, string][] = [
  ["model.embed_tokens", "token_embd"],
  ["model.norm", "output_norm"],
  ["lm_head", "output"],
  ["model.layers", "blk"],
  ["input_layernorm", "attn_norm"],
  ["post_attention_layernorm", "ffn_norm"],
  ["self_attn.q_norm", "attn_q_norm"],
  ["self_attn.k_norm", "attn_k_norm"],
  ["self_attn.q_proj", "attn_q"],
  ["self_attn.k_proj", "attn_k"],
  ["self_attn.v_proj", "attn_v"],
  ["self_attn.o_proj", "attn_output"],
  ["mlp.gate_proj", "ffn_gate"],
  ["mlp.up_proj", "ffn_up"],
  ["mlp.down_proj", "ffn_down"],
];

/** The tensors of a tiny model in F32, with llama.cpp's names and its order of q and k rows. */
export function ggufTensors(config = tinyConfig): Record<string, GgufTensorToWrite> {
  const permuted = new Map<string, number>();
  for (let layer = 0; config.architecture === "llama" && layer < config.layers; layer++) {
    permuted.set(`${projectionPath(layer, "q_proj")}.weight`, config.heads);
    permuted.set(`${projectionPath(layer, "k_proj")}.weight`, config.kvHeads);
  }
  return Object.fromEntries([...tinyTensors(config)].map(([name, { shape, bytes }]) => {
    const values = bytes as Float32Array;
    const heads = permuted.get(name);
    const stored = heads ? permuteRows(values, shape[0], heads) : values;
    const ggufName = ggufNames.reduce((n, [hf, gguf]) => n.replace(hf, gguf), name);
    return [ggufName, { shape: [...shape], type: 0, bytes: new Uint8Array(stored.slice().buffer) }];
  }));
}

/** convert_hf_to_gguf: reshape(heads, 2, D / 2, in), swap the middle two. */
function permuteRows(values: Float32Array, rows: number, heads: number): Float32Array {
  const width = values.length / rows;
  const half = rows / heads / 2;
  const out = new Float32Array(values.length);
  let to = 0;
  for (let head = 0; head < heads; head++) {
    for (let j = 0; j < half; j++) {
      for (let part = 0; part < 2; part++, to++) {
        const from = head * 2 * half + part * half + j;
        out.set(values.subarray(from * width, (from + 1) * width), to * width);
      }
    }
  }
  return out;
}

/** Runs a test with a folder of its own. */
export async function inFolder(test: (folder: string) => Promise<void> | void): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "lorapar-test-" });
  try {
    await test(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}
