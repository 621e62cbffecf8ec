// Opens a model: a Hugging Face folder or a GGUF file becomes one ModelSource with Hugging Face's tensor
// names. Before anything is read, every tensor the architecture needs must be there with its shape, and
// no tensor may be left that the computation would ignore.

import { InvalidFile } from "../errors.ts";
import { type ModelConfig, projectionPath, projections, projectionShape } from "./config.ts";
import { firstNonFinite } from "./floats.ts";
import { parseHfConfig } from "./hf_config.ts";
import { isFile, readJsonObject } from "./positioned_file.ts";
import { floatType, openSafetensors, type SafetensorsFile } from "./safetensors.ts";
import type { ModelSource, StoredTensor } from "./source.ts";
import { readHfTokenizer } from "./tokenizer.ts";

/**
 * Opens a Hugging Face folder or a .gguf file without reading its weights.
 * @throws {InvalidFile} when something is missing, does not fit, or is not computed here
 */
export async function openModel(path: string): Promise<ModelSource> {
  const found = await statOf(path);
  return found.isDirectory ? openHfFolder(path) : openGguf(path);
}

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
}

/**
 * Joins a config, a tokenizer and the tensors found into a source; tensors come in the order of the
 * forward pass, and `read` refuses NaN and Inf.
 * @throws {InvalidFile} when a tensor is missing, has another shape, or would be ignored
 */
export function modelSource(
  config: ModelConfig,
  tokenizer: ModelSource["tokenizer"],
  found: ReadonlyMap<string, UnreadTensor>,
  where: string,
  close: () => void,
): ModelSource {
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
  // The tokenizer's own end counts as one of the model's.
  const complete = { ...config, eosTokens: [...tokenizer.eosTokens] };
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
  return { config: complete, tokenizer, tensors, read, close };
}

/**
 * Opens a Hugging Face folder; golden models, which have no tokenizer, bring another `readTokenizer`.
 * @throws {InvalidFile} as `openModel`
 */
export function openHfFolder(folder: string, readTokenizer = readHfTokenizer): ModelSource {
  const json = readJsonObject(`${folder}/config.json`);
  const generationPath = `${folder}/generation_config.json`;
  const generation = isFile(generationPath) ? readJsonObject(generationPath) : null;
  const config = parseHfConfig(json, generation, folder);
  const tokenizer = readTokenizer(folder, config);
  const shards: SafetensorsFile[] = [];
  const close = () => {
    for (const shard of shards.splice(0)) shard.close();
  };
  try {
    for (const name of shardNames(folder)) shards.push(openSafetensors(`${folder}/${name}`));
    return modelSource(config, tokenizer, tensorsOf(shards), folder, close);
  } catch (error) {
    close();
    throw error;
  }
}

function shardNames(folder: string): string[] {
  if (isFile(`${folder}/model.safetensors`)) return ["model.safetensors"];
  const indexPath = `${folder}/model.safetensors.index.json`;
  if (!isFile(indexPath)) {
    throw new InvalidFile(
      `Cannot open the model ${folder}: it has neither model.safetensors nor model.safetensors.index.json; save it with save_pretrained(safe_serialization=True)`,
    );
  }
  const map = readJsonObject(indexPath).weight_map;
  const names = [...new Set(Object.values((map ?? {}) as Record<string, unknown>))];
  for (const name of names) {
    if (typeof name !== "string" || !/^[^/\\]+\.safetensors$/.test(name)) {
      throw new InvalidFile(
        `Cannot use ${indexPath}: weight_map names ${
          JSON.stringify(name)
        }, wanted a .safetensors file of the same folder`,
      );
    }
  }
  if (names.length === 0) throw new InvalidFile(`Cannot use ${indexPath}: its weight_map is empty`);
  return names as string[];
}

function tensorsOf(shards: readonly SafetensorsFile[]): Map<string, UnreadTensor> {
  const found = new Map<string, UnreadTensor>();
  for (const shard of shards) {
    for (const [name, { dtype, shape, begin, end }] of shard.tensors) {
      if (found.has(name)) {
        throw new InvalidFile(
          `Cannot use ${shard.path}: tensor ${name} is in another shard as well`,
        );
      }
      const float = floatType(dtype);
      if (!float) {
        throw new InvalidFile(
          `Cannot use ${shard.path}: tensor ${name} is ${dtype}, wanted F32, F16 or BF16`,
        );
      }
      const read = () => ({ dtype: float, shape: [...shape], bytes: shard.read(name).bytes });
      found.set(name, { shape, sizeBytes: end - begin, read });
    }
  }
  return found;
}

function openGguf(path: string): ModelSource {
  throw new InvalidFile(`Cannot open ${path}: GGUF files are not read yet`);
}

async function statOf(path: string): Promise<Deno.FileInfo> {
  try {
    return await Deno.stat(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new InvalidFile(
      `Cannot open the model ${path}: no such file or folder; wanted a Hugging Face folder or a .gguf file`,
    );
  }
}
