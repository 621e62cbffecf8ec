// What a model folder or file offers, before anything is on the GPU: sizes, tokenizer, tensors by
// their Hugging Face names. `openModel` in open.ts makes one from a Hugging Face folder or a GGUF file.

import type { ModelConfig } from "./config.ts";
import type { ChatTokenizer } from "./tokenizer.ts";

/** A tensor as stored, or as expanded at load: row-major, little-endian. */
export interface StoredTensor {
  dtype: "f32" | "f16" | "bf16";
  shape: number[];
  bytes: Uint8Array<ArrayBuffer>;
}

/** A model's sizes and weights. Its texts are left to others (lib/engine/text), and with them their risks. */
export interface ModelWeights {
  config: ModelConfig;
  /** Hugging Face names, e.g. `model.layers.0.self_attn.q_proj.weight`, with their shapes. */
  tensors: ReadonlyMap<string, { shape: number[]; sizeBytes: number }>;
  /** Reads one tensor. @throws {InvalidFile} when it is missing, truncated or holds NaN or Inf. */
  read(name: string): Promise<StoredTensor>;
  /** The model's name on the Hugging Face hub where its files say so, else null. */
  hubName: string | null;
  /** Names the base's weights (digest.ts); the files are read at the first call. */
  digest(): string;
  close(): void;
}

export interface ModelSource extends ModelWeights {
  tokenizer: ChatTokenizer;
}
