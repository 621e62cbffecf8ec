// The shape of a decoder of the Llama family, whatever file it came from.
// One record for Hugging Face's config.json and GGUF metadata; the readers fill it and check it.

/** Llama 3's frequency scaling of RoPE (Transformers' `rope_type: "llama3"`). */
export interface Llama3RopeScaling {
  type: "llama3";
  factor: number;
  lowFreqFactor: number;
  highFreqFactor: number;
  originalMaxPositions: number;
}

/** Every position divided by one factor (Transformers' `rope_type: "linear"`). */
export interface LinearRopeScaling {
  type: "linear";
  factor: number;
}

/** Sizes carry the letters of the README: C hidden, F intermediate, H heads, KVH key/value heads, D head size, V vocabulary. */
export interface ModelConfig {
  architecture: "llama" | "qwen2" | "qwen3";
  /** V */
  vocabSize: number;
  /** C */
  hiddenSize: number;
  /** F */
  intermediateSize: number;
  layers: number;
  /** H */
  heads: number;
  /** KVH */
  kvHeads: number;
  /** D; H * D need not equal C (Qwen 3). */
  headSize: number;
  rmsNormEps: number;
  ropeTheta: number;
  ropeScaling: Llama3RopeScaling | LinearRopeScaling | null;
  maxPositions: number;
  /** The LM head is the embedding matrix. */
  tieEmbeddings: boolean;
  /** q, k and v projections have a bias (Qwen 2 and 2.5). */
  qkvBias: boolean;
  /** q and k pass an RMSNorm over each head before RoPE (Qwen 3). */
  qkNorm: boolean;
  bosToken: number | null;
  /** Any of these ends a generation. */
  eosTokens: number[];
}

/** The projections of a block that a LoRA can sit on, in the order of the forward pass. */
export const projections = [
  "q_proj",
  "k_proj",
  "v_proj",
  "o_proj",
  "gate_proj",
  "up_proj",
  "down_proj",
] as const;
export type Projection = typeof projections[number];

/** The Hugging Face module path of a projection, e.g. `model.layers.0.self_attn.q_proj`. */
export function projectionPath(layer: number, projection: Projection): string {
  const parent = projection.endsWith("gate_proj") || projection === "up_proj" ||
      projection === "down_proj"
    ? "mlp"
    : "self_attn";
  return `model.layers.${layer}.${parent}.${projection}`;
}

/** Output and input size of a projection's weight, (rows, columns) = (out, in). */
export function projectionShape(config: ModelConfig, projection: Projection): [number, number] {
  const { hiddenSize: C, intermediateSize: F, heads: H, kvHeads: KVH, headSize: D } = config;
  switch (projection) {
    case "q_proj":
      return [H * D, C];
    case "k_proj":
    case "v_proj":
      return [KVH * D, C];
    case "o_proj":
      return [C, H * D];
    case "gate_proj":
    case "up_proj":
      return [F, C];
    case "down_proj":
      return [C, F];
  }
}
