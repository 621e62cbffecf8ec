// A GGUF file as a ModelSource: metadata to a ModelConfig, llama.cpp's tensor names to Hugging Face's.
// llama.cpp's converter reorders the rows of q and k of the llama architecture (its RoPE pairs neighbours,
// Hugging Face's pairs halves); that is undone here. Llama 3's frequency scaling is stored as factors
// only; its parameters are recovered from them and must reproduce every factor.
// Left out: mixtures of experts, sliding windows, YaRN, scaled logits or residuals (refused by name).

import { InvalidFile } from "../errors.ts";
import type { LinearRopeScaling, Llama3RopeScaling, ModelConfig } from "./config.ts";
import { floatBytes, toFloat32 } from "./floats.ts";
import { type GgufFile, type GgufTensor, openGgufFile } from "./gguf.ts";
import { expandTensor } from "./gguf_blocks.ts";
import { ggufTokenizerKind, ggufTokenizerParts } from "./gguf_tokenizer.ts";
import { hubNameOfGguf } from "./hub_name.ts";
import { checkConfig, isPositive } from "./hf_config.ts";
import { computedTensors, modelSource, modelWeights, type UnreadTensor } from "./model_source.ts";
import type { ModelSource, ModelWeights, StoredTensor } from "./source.ts";
import { ChatTokenizer } from "./tokenizer.ts";

/** Opens a .gguf file without reading its weights. @throws {InvalidFile} as `openModel` */
export function openGgufModel(path: string): ModelSource {
  const file = openGgufFile(path);
  try {
    const config = ggufConfig(file);
    const tokenizer = new ChatTokenizer(ggufTokenizerParts(file.metadata, path), config, path);
    return modelSource(config, tokenizer, tensorsOf(file, config), path, originOf(file));
  } catch (error) {
    file.close();
    throw error;
  }
}

/** Opens a .gguf file without its token lists. @throws {InvalidFile} as `openGgufModel` */
export function openGgufWeights(path: string): ModelWeights {
  const file = openGgufFile(path, { skipLists: true });
  try {
    const config = ggufConfig(file);
    return modelWeights(config, tensorsOf(file, config), path, originOf(file));
  } catch (error) {
    file.close();
    throw error;
  }
}

function originOf(file: GgufFile): Pick<ModelWeights, "hubName" | "close"> {
  return { hubName: hubNameOfGguf(file.metadata), close: () => file.close() };
}

/**
 * Checks what a .gguf file says of itself: sizes, tensors and the kind of its tokenizer. Its tokens are
 * passed over, so it takes milliseconds.
 * @throws {InvalidFile} as `openGgufModel`, but for what is wrong inside the tokenizer
 */
export function checkGgufModel(path: string): void {
  const file = openGgufFile(path, { skipLists: true });
  try {
    const config = ggufConfig(file);
    ggufTokenizerKind(file.metadata, path);
    computedTensors(config, tensorsOf(file, config), path);
  } finally {
    file.close();
  }
}

/**
 * The model's sizes from GGUF metadata and the embedding's shape.
 * @throws {InvalidFile} when a field is missing, wrong, or asks for something not computed here
 */
export function ggufConfig(file: GgufFile): ModelConfig {
  const architecture = file.metadata.get("general.architecture");
  if (architecture !== "llama" && architecture !== "qwen2" && architecture !== "qwen3") {
    throw new InvalidFile(
      `Cannot use ${file.path}: its architecture is ${
        JSON.stringify(architecture)
      }, wanted llama, qwen2 or qwen3`,
    );
  }
  const fields = new ModelFields(file, architecture);
  fields.refuse("expert_count", "attention.sliding_window", "attention.scale", "logit_scale");
  fields.refuse("residual_scale", "embedding_scale", "attention.clamp_kqv");
  const embedding = file.tensors.get("token_embd.weight");
  if (!embedding) throw fields.error("tensor token_embd.weight is missing");
  const hiddenSize = fields.size("embedding_length");
  const heads = fields.size("attention.head_count");
  const headSize = fields.get("attention.key_length") === undefined
    ? hiddenSize / heads
    : fields.size("attention.key_length");
  for (const name of ["attention.value_length", "rope.dimension_count"]) {
    if (fields.get(name) !== undefined && fields.size(name) !== headSize) {
      throw fields.error(
        `${name} is ${
          fields.size(name)
        }, the head size ${headSize}; only equal ones are computed here`,
      );
    }
  }
  const ropeTheta = fields.positive("rope.freq_base", 10000);
  const config: ModelConfig = {
    architecture,
    vocabSize: embedding.shape[0],
    hiddenSize,
    intermediateSize: fields.size("feed_forward_length"),
    layers: fields.size("block_count"),
    heads,
    kvHeads: fields.size("attention.head_count_kv", heads),
    headSize,
    rmsNormEps: fields.positive("attention.layer_norm_rms_epsilon"),
    ropeTheta,
    ropeScaling: linearScaling(fields) ?? llama3Scaling(file, fields, headSize, ropeTheta),
    maxPositions: fields.size("context_length"),
    tieEmbeddings: !file.tensors.has("output.weight"),
    qkvBias: architecture === "qwen2",
    qkNorm: architecture === "qwen3",
    bosToken: fields.token("bos"),
    eosTokens: [...new Set([fields.token("eos"), fields.token("eot"), fields.token("eom")])]
      .filter((token) => token !== null),
  };
  checkConfig(config, file.path);
  return config;
}

function linearScaling(fields: ModelFields): LinearRopeScaling | null {
  const type = fields.get("rope.scaling.type") ?? "none";
  // Older files name the factor only.
  const oldFactor = fields.get("rope.scale_linear");
  if (type === "linear" || (type === "none" && oldFactor !== undefined && oldFactor !== 1)) {
    const name = oldFactor === undefined ? "rope.scaling.factor" : "rope.scale_linear";
    return { type: "linear", factor: fields.positive(name) };
  }
  if (type !== "none") {
    throw fields.error(
      `rope.scaling.type is ${JSON.stringify(type)}, only none and linear are computed here`,
    );
  }
  return null;
}

function llama3Scaling(
  file: GgufFile,
  fields: ModelFields,
  headSize: number,
  ropeTheta: number,
): Llama3RopeScaling | null {
  const tensor = file.tensors.get("rope_freqs.weight");
  if (!tensor) return null;
  if (tensor.shape.length !== 1 || tensor.shape[0] !== headSize / 2 || tensor.format.expand) {
    throw fields.error(
      `tensor rope_freqs.weight has shape (${
        tensor.shape.join(", ")
      }) of ${tensor.format.name}, wanted (${headSize / 2}) floats`,
    );
  }
  const factors = toFloat32(expandTensor(tensor.format, file.readBytes(tensor)));
  const factor = factors.reduce((largest, f) => Math.max(largest, f), 0);
  if (factors.every((f) => f === 1)) return null;
  // Every released model of this kind has these; a file with others is told apart below.
  const scaling: Llama3RopeScaling = {
    type: "llama3",
    factor,
    lowFreqFactor: 1,
    highFreqFactor: 4,
    originalMaxPositions: fields.size("rope.scaling.original_context_length", 8192),
  };
  for (let i = 0; i < factors.length; i++) {
    const wanted = llama3Factor(scaling, ropeTheta ** (2 * i / headSize));
    if (!(Math.abs(factors[i] - wanted) <= 1e-4 * wanted)) {
      throw fields.error(
        `rope_freqs.weight holds ${
          factors[i]
        } at ${i}, Llama 3's scaling by ${factor} gives ${wanted}; other scalings are not computed here, use the model's Hugging Face folder`,
      );
    }
  }
  return scaling;
}

/** What Llama 3 divides a frequency by; `period` is its inverse. */
function llama3Factor(scaling: Llama3RopeScaling, period: number): number {
  const { factor, lowFreqFactor: low, highFreqFactor: high, originalMaxPositions } = scaling;
  const turns = originalMaxPositions / (2 * Math.PI * period);
  if (turns > high) return 1;
  if (turns < low) return factor;
  const smooth = (turns - low) / (high - low);
  return 1 / ((1 - smooth) / factor + smooth);
}

const names: Record<string, string> = {
  attn_norm: "input_layernorm",
  attn_q: "self_attn.q_proj",
  attn_k: "self_attn.k_proj",
  attn_v: "self_attn.v_proj",
  attn_output: "self_attn.o_proj",
  attn_q_norm: "self_attn.q_norm",
  attn_k_norm: "self_attn.k_norm",
  ffn_norm: "post_attention_layernorm",
  ffn_gate: "mlp.gate_proj",
  ffn_up: "mlp.up_proj",
  ffn_down: "mlp.down_proj",
};

/** The Hugging Face name, or the GGUF name itself where there is none. */
function hfName(name: string): string {
  if (name === "token_embd.weight") return "model.embed_tokens.weight";
  if (name === "output_norm.weight") return "model.norm.weight";
  if (name === "output.weight") return "lm_head.weight";
  const [, layer, part, kind] = /^blk\.(\d+)\.(\w+)\.(weight|bias)$/.exec(name) ?? [];
  return part !== undefined && Object.hasOwn(names, part)
    ? `model.layers.${layer}.${names[part]}.${kind}`
    : name;
}

function tensorsOf(file: GgufFile, config: ModelConfig): Map<string, UnreadTensor> {
  const found = new Map<string, UnreadTensor>();
  for (const [name, tensor] of file.tensors) {
    if (name === "rope_freqs.weight") continue;
    const permuted = config.architecture === "llama"
      ? /attn_([qk])\.weight$/.exec(name)?.[1]
      : null;
    const heads = permuted === "q" ? config.heads : permuted === "k" ? config.kvHeads : 0;
    found.set(hfName(name), {
      shape: tensor.shape,
      sizeBytes: tensor.shape.reduce((product, size) => product * size, 1) *
        floatBytes[tensor.format.dtype],
      read: () => readTensor(file, tensor, heads),
      stored: {
        type: tensor.format.name,
        sizeBytes: tensor.end - tensor.begin,
        read: (offset, length) => {
          const begin = tensor.begin + offset;
          return file.readBytes({ begin, end: begin + length });
        },
      },
    });
  }
  return found;
}

function readTensor(file: GgufFile, tensor: GgufTensor, permutedHeads: number): StoredTensor {
  const { dtype, bytes } = expandTensor(tensor.format, file.readBytes(tensor));
  const shape = [...tensor.shape];
  if (permutedHeads === 0) return { dtype, shape, bytes };
  return { dtype, shape, bytes: unpermute(bytes, shape[0], permutedHeads) };
}

/** Row (h, half, j) from row (h, j, half): D = 2 * half sizes, j counts within a half. */
function unpermute(
  bytes: Uint8Array<ArrayBuffer>,
  rows: number,
  heads: number,
): Uint8Array<ArrayBuffer> {
  const rowBytes = bytes.byteLength / rows;
  const headSize = rows / heads;
  const out = new Uint8Array(bytes.byteLength);
  for (let row = 0; row < rows; row++) {
    const head = Math.floor(row / headSize);
    const within = row % headSize;
    const half = within < headSize / 2 ? 0 : 1;
    const from = head * headSize + 2 * (within - half * headSize / 2) + half;
    out.set(bytes.subarray(from * rowBytes, (from + 1) * rowBytes), row * rowBytes);
  }
  return out;
}

/** Typed access to the architecture's metadata, e.g. `llama.block_count`. */
class ModelFields {
  constructor(private readonly file: GgufFile, private readonly architecture: string) {}

  get(name: string): unknown {
    return this.file.metadata.get(`${this.architecture}.${name}`);
  }

  error(found: string): InvalidFile {
    return new InvalidFile(`Cannot use ${this.file.path}: ${found}`);
  }

  /** A positive integer; a list that gives each layer the same one counts as that one. */
  size(name: string, fallback?: number): number {
    let value = this.get(name) ?? fallback;
    if (ArrayBuffer.isView(value)) {
      const list = Array.from(value as unknown as ArrayLike<number>);
      if (new Set(list).size !== 1) {
        throw this.error(`${name} differs between layers, which is not computed here`);
      }
      value = list[0];
    }
    if (!Number.isSafeInteger(value) || (value as number) <= 0) {
      throw this.wrong(name, "a positive integer");
    }
    return value as number;
  }

  positive(name: string, fallback?: number): number {
    const value = this.get(name) ?? fallback;
    if (!isPositive(value)) throw this.wrong(name, "a positive number");
    return value;
  }

  token(role: "bos" | "eos" | "eot" | "eom"): number | null {
    const value = this.file.metadata.get(`tokenizer.ggml.${role}_token_id`);
    return typeof value === "number" ? value : null;
  }

  /** Refuses fields that would change the numbers. */
  refuse(...names: string[]): void {
    for (const name of names) {
      const value = this.get(name);
      if (value !== undefined && value !== 0) {
        throw this.error(
          `${this.architecture}.${name} is ${String(value)}, which is not computed here`,
        );
      }
    }
  }

  private wrong(name: string, wanted: string): InvalidFile {
    const value = this.get(name);
    const found = value === undefined ? "missing" : String(value);
    return this.error(`${this.architecture}.${name} is ${found}, wanted ${wanted}`);
  }
}
