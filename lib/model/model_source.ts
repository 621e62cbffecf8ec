// The tensors of an architecture and the ModelSource over whatever file holds them. Before anything is
// read, every tensor the computation needs must be there with its shape, and none may be left over that
// it would ignore; each tensor is searched for NaN and Inf when it is read.

import { InvalidFile } from "../errors.ts";
import { type ModelConfig, projectionPath, projections, projectionShape } from "./config.ts";
import { baseDigest, type StoredBytes } from "./digest.ts";
import { firstNonFinite } from "./floats.ts";
import type { ModelSource, ModelWeights, StoredTensor } from "./source.ts";

/** Every tensor an architecture computes with, by its Hugging Face name, with its shape (out, in). */
export function modelTensors(config: ModelConfig): Map<string, number[]> {
  const { vocabSize: V, hiddenSize: C, headSize: D } = config;
  const shapes = new Map<string, number[]>([["model.embed_tokens.weight", [V, C]]]);
  for (let layer = 0; layer < config.layers; layer++) {
    const block = `model.layers.${layer}`;
    shapes.set(`${block}.input_layernorm.weight`, [C]);
    for (const projection of projections) {
      const path = projectionPath(layer, projection);
      const shape = projectionShape(config, projection);
      shapes.set(`${path}.weight`, shape);
      if (config.qkvBias && /[qkv]_proj$/.test(projection)) shapes.set(`${path}.bias`, [shape[0]]);
    }
    if (config.qkNorm) {
      shapes.set(`${block}.self_attn.q_norm.weight`, [D]);
      shapes.set(`${block}.self_attn.k_norm.weight`, [D]);
    }
    shapes.set(`${block}.post_attention_layernorm.weight`, [C]);
  }
  shapes.set("model.norm.weight", [C]);
  if (!config.tieEmbeddings) shapes.set("lm_head.weight", [V, C]);
  return shapes;
}

/** A tensor of a file that is not yet read. */
export interface UnreadTensor {
  shape: number[];
  /** Bytes as `read` will return them. */
  sizeBytes: number;
  read(): StoredTensor;
  stored: StoredBytes;
}

/**
 * The tensors found that the model computes with, in the order of the forward pass.
 * @throws {InvalidFile} when one is missing, has another shape, or would be ignored
 */
export function computedTensors(
  config: ModelConfig,
  found: ReadonlyMap<string, UnreadTensor>,
  where: string,
): Map<string, UnreadTensor> {
  const wanted = modelTensors(config);
  const tensors = new Map<string, UnreadTensor>();
  for (const [name, shape] of wanted) {
    const tensor = found.get(name);
    if (!tensor) {
      throw new InvalidFile(
        `Cannot open the model ${where}: tensor ${name} of shape (${shape.join(", ")}) is missing`,
      );
    }
    if (tensor.shape.length !== shape.length || tensor.shape.some((size, i) => size !== shape[i])) {
      throw new InvalidFile(
        `Cannot open the model ${where}: tensor ${name} has shape (${
          tensor.shape.join(", ")
        }), its config wants (${shape.join(", ")})`,
      );
    }
    tensors.set(name, tensor);
  }
  for (const name of found.keys()) {
    // A tied head is the embedding; RoPE's frequencies follow from the config.
    const harmless = name === "lm_head.weight" || name.endsWith(".rotary_emb.inv_freq");
    if (!wanted.has(name) && !harmless) {
      throw new InvalidFile(
        `Cannot open the model ${where}: tensor ${name} is no part of a ${config.architecture} model of ${config.layers} layers; its config belongs to another model`,
      );
    }
  }
  return tensors;
}

/** Where tensors come from. */
type Origin = Pick<ModelWeights, "hubName" | "close">;

/**
 * Joins a config and the tensors found; `read` refuses NaN and Inf.
 * @throws {InvalidFile} as `computedTensors`
 */
export function modelWeights(
  config: ModelConfig,
  found: ReadonlyMap<string, UnreadTensor>,
  where: string,
  { hubName, close }: Origin,
): ModelWeights {
  const tensors = computedTensors(config, found, where);
  const read = (name: string): Promise<StoredTensor> =>
    Promise.try(() => {
      const tensor = tensors.get(name);
      if (!tensor) throw new InvalidFile(`Cannot read tensor ${name}: the model ${where} has none`);
      const stored = tensor.read();
      const bad = firstNonFinite(stored.dtype, stored.bytes);
      if (bad >= 0) {
        throw new InvalidFile(
          `Cannot use the model ${where}: tensor ${name} holds NaN or Inf at element ${bad}; the weights are damaged`,
        );
      }
      return stored;
    });
  let known: string | null = null;
  const digest = () => known ??= baseDigest(config, tensors);
  return { config, tensors, hubName, read, digest, close };
}

/** The same with a tokenizer, whose own end counts as one of the model's. */
export function modelSource(
  config: ModelConfig,
  tokenizer: ModelSource["tokenizer"],
  found: ReadonlyMap<string, UnreadTensor>,
  where: string,
  origin: Origin,
): ModelSource {
  const complete = { ...config, eosTokens: [...tokenizer.eosTokens] };
  return { ...modelWeights(complete, found, where, origin), tokenizer };
}
