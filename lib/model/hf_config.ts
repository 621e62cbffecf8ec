// A Hugging Face config.json (Transformers 4 and 5) to a ModelConfig. Whatever would change the numbers
// and is not computed here (other activations, sliding windows, YaRN, biases of other layers, quantised
// weights) is refused by name rather than ignored.

import { InvalidFile } from "../errors.ts";
import type { LinearRopeScaling, Llama3RopeScaling, ModelConfig } from "./config.ts";

type Json = Record<string, unknown>;

const architectures: Record<string, ModelConfig["architecture"]> = {
  LlamaForCausalLM: "llama",
  Qwen2ForCausalLM: "qwen2",
  Qwen3ForCausalLM: "qwen3",
};

/**
 * The model's sizes from config.json and, where there is one, generation_config.json.
 * @param where the folder, for messages
 * @throws {InvalidFile} when a field is missing, wrong, or asks for something not computed here
 */
export function parseHfConfig(json: Json, generation: Json | null, where: string): ModelConfig {
  const file = `${where}/config.json`;
  const fields = new Fields(json, file);
  const architecture = readArchitecture(json, file);
  refuseUnknown(json, architecture, file);

  const hiddenSize = fields.size("hidden_size");
  const heads = fields.size("num_attention_heads");
  // Qwen 3 has its own default head size; the others divide the hidden size.
  const headSize = json.head_dim === undefined || json.head_dim === null
    ? (architecture === "qwen3" ? 128 : hiddenSize / heads)
    : fields.size("head_dim");
  const rope = readRope(json, file);
  const config: ModelConfig = {
    architecture,
    vocabSize: fields.size("vocab_size"),
    hiddenSize,
    intermediateSize: fields.size("intermediate_size"),
    layers: fields.size("num_hidden_layers"),
    heads,
    kvHeads: fields.size("num_key_value_heads", heads),
    headSize,
    rmsNormEps: fields.positive("rms_norm_eps", 1e-6),
    ropeTheta: rope.theta,
    ropeScaling: rope.scaling,
    maxPositions: fields.size("max_position_embeddings", architecture === "llama" ? 2048 : 32768),
    tieEmbeddings: json.tie_word_embeddings === true,
    qkvBias: architecture === "qwen2",
    qkNorm: architecture === "qwen3",
    bosToken: fields.token("bos_token_id"),
    eosTokens: [],
  };
  config.eosTokens = readEosTokens(json, generation, config.vocabSize, where);
  checkConfig(config, file);
  return config;
}

/** Beyond any model of the family; a lying size ends here and not in a loop or an allocation. */
const largest = {
  vocabSize: 2 ** 24,
  hiddenSize: 2 ** 18,
  intermediateSize: 2 ** 20,
  layers: 1000,
  heads: 4096,
  kvHeads: 4096,
  headSize: 4096,
  maxPositions: 2 ** 27,
} as const;

const sizeNames: Record<keyof typeof largest, string> = {
  vocabSize: "vocabulary",
  hiddenSize: "hidden size",
  intermediateSize: "intermediate size",
  layers: "number of layers",
  heads: "number of heads",
  kvHeads: "number of key/value heads",
  headSize: "head size",
  maxPositions: "number of positions",
};

/** Relations between sizes that hold for every source. @throws {InvalidFile} naming the first that fails. */
export function checkConfig(config: ModelConfig, where: string): void {
  const fail = (found: string) =>
    new InvalidFile(`Cannot use the model sizes of ${where}: ${found}`);
  const { heads, kvHeads, headSize, vocabSize } = config;
  if (!Number.isInteger(headSize)) {
    throw fail(`hidden size ${config.hiddenSize} does not divide by ${heads} heads`);
  }
  if (headSize % 2 !== 0) throw fail(`head size ${headSize} is odd, RoPE turns pairs`);
  if (heads % kvHeads !== 0) {
    throw fail(`${heads} heads cannot share ${kvHeads} key/value heads evenly`);
  }
  for (const name of Object.keys(largest) as (keyof typeof largest)[]) {
    if (config[name] > largest[name]) {
      throw fail(`its ${sizeNames[name]} is ${config[name]}, at most ${largest[name]} is taken`);
    }
  }
  // The vocabulary is padded when it is loaded (decoder.ts); padding these would change norms and RoPE.
  for (const name of ["hiddenSize", "intermediateSize", "headSize"] as const) {
    if (config[name] % 4 !== 0) {
      throw fail(
        `its ${sizeNames[name]} is ${config[name]}, only multiples of 4 are computed here`,
      );
    }
  }
  for (const token of [config.bosToken, ...config.eosTokens]) {
    if (token !== null && !(Number.isInteger(token) && token >= 0 && token < vocabSize)) {
      throw fail(`special token ${token} lies outside the vocabulary of ${vocabSize}`);
    }
  }
}

function readArchitecture(json: Json, file: string): ModelConfig["architecture"] {
  const named = Array.isArray(json.architectures) ? json.architectures[0] : undefined;
  const known = Object.keys(architectures).join(", ");
  if (named === undefined) {
    const modelType = json.model_type;
    if (modelType === "llama" || modelType === "qwen2" || modelType === "qwen3") return modelType;
    throw new InvalidFile(
      `Cannot use ${file}: model_type ${
        JSON.stringify(modelType)
      } and no architectures, wanted one of ${known}`,
    );
  }
  if (typeof named !== "string" || !Object.hasOwn(architectures, named)) {
    throw new InvalidFile(
      `Cannot use ${file}: architecture ${JSON.stringify(named)}, wanted one of ${known}`,
    );
  }
  return architectures[named];
}

function refuseUnknown(json: Json, architecture: ModelConfig["architecture"], file: string): void {
  const refuse = (field: string, wanted: string) => {
    throw new InvalidFile(
      `Cannot use ${file}: ${field} is ${
        JSON.stringify(json[field])
      }, only ${wanted} is computed here`,
    );
  };
  if (!["silu", "swish", undefined].includes(json.hidden_act as string | undefined)) {
    refuse("hidden_act", '"silu"');
  }
  // Qwen 2's q, k and v biases are part of its architecture; this field adds others.
  if (architecture !== "qwen2" && json.attention_bias) refuse("attention_bias", "false");
  if (json.mlp_bias) refuse("mlp_bias", "false");
  if (json.use_sliding_window) refuse("use_sliding_window", "false");
  if (Array.isArray(json.layer_types) && json.layer_types.some((t) => t !== "full_attention")) {
    refuse("layer_types", '"full_attention" in every layer');
  }
  const partial = json.partial_rotary_factor;
  if (partial !== undefined && partial !== null && partial !== 1) {
    refuse("partial_rotary_factor", "1");
  }
  if (json.quantization_config) {
    refuse("quantization_config", "an unquantised F32, F16 or BF16 folder (or a GGUF file)");
  }
}

function readRope(
  json: Json,
  file: string,
): { theta: number; scaling: Llama3RopeScaling | LinearRopeScaling | null } {
  // Transformers 5 writes rope_parameters with the base inside; 4 wrote rope_theta and rope_scaling.
  const field = json.rope_parameters ? "rope_parameters" : "rope_scaling";
  const rope = json[field];
  if (rope !== undefined && rope !== null && (typeof rope !== "object" || Array.isArray(rope))) {
    throw new InvalidFile(`Cannot use ${file}: ${field} must be an object or null`);
  }
  const parameters = (rope ?? {}) as Json;
  const inner = new Fields(parameters, `${file} (${field})`);
  const theta = parameters.rope_theta === undefined
    ? new Fields(json, file).positive("rope_theta", 10000)
    : inner.positive("rope_theta");
  const type = parameters.rope_type ?? parameters.type ?? "default";
  switch (type) {
    case "default":
      return { theta, scaling: null };
    case "linear":
      return { theta, scaling: { type: "linear", factor: inner.positive("factor") } };
    case "llama3":
      return {
        theta,
        scaling: {
          type: "llama3",
          factor: inner.positive("factor"),
          lowFreqFactor: inner.positive("low_freq_factor"),
          highFreqFactor: inner.positive("high_freq_factor"),
          originalMaxPositions: inner.size("original_max_position_embeddings"),
        },
      };
    default:
      throw new InvalidFile(
        `Cannot use ${file}: RoPE type ${
          JSON.stringify(type)
        } in ${field}, only default, linear and llama3 are computed here`,
      );
  }
}

function readEosTokens(
  json: Json,
  generation: Json | null,
  vocabSize: number,
  where: string,
): number[] {
  const tokens = new Set<number>();
  // The generation config comes first: it is the one Transformers' generate() obeys.
  for (
    const [source, name] of [[generation, "generation_config.json"], [json, "config.json"]] as const
  ) {
    const value = source?.eos_token_id;
    if (value === undefined || value === null) continue;
    for (const token of Array.isArray(value) ? value : [value]) {
      if (!Number.isInteger(token) || token < 0 || token >= vocabSize) {
        throw new InvalidFile(
          `Cannot use ${where}/${name}: eos_token_id ${
            JSON.stringify(token)
          } is no token of the vocabulary of ${vocabSize}`,
        );
      }
      tokens.add(token);
    }
  }
  return [...tokens];
}

/** Whether a value is a positive number that stays one as f32. */
export function isPositive(value: unknown): value is number {
  return typeof value === "number" && value >= 1e-37 && value <= 1e38;
}

/** Typed access to the fields of one JSON object, with the file's name in every message. */
class Fields {
  constructor(private readonly json: Json, private readonly file: string) {}

  /** A positive integer. */
  size(name: string, fallback?: number): number {
    const value = this.json[name] ?? fallback;
    if (!Number.isSafeInteger(value) || (value as number) <= 0) {
      throw this.wrong(name, "a positive integer");
    }
    return value as number;
  }

  /** A positive number that an f32 holds. */
  positive(name: string, fallback?: number): number {
    const value = this.json[name] ?? fallback;
    if (!isPositive(value)) throw this.wrong(name, "a positive number");
    return value;
  }

  /** A token id, or null. */
  token(name: string): number | null {
    const value = this.json[name] ?? null;
    if (value === null) return null;
    if (!Number.isSafeInteger(value) || (value as number) < 0) {
      throw this.wrong(name, "a token id or null");
    }
    return value as number;
  }

  private wrong(name: string, wanted: string): InvalidFile {
    const found = this.json[name] === undefined ? "missing" : JSON.stringify(this.json[name]);
    return new InvalidFile(`Cannot use ${this.file}: ${name} is ${found}, wanted ${wanted}`);
  }
}
