// Opens a model: a Hugging Face folder or a GGUF file becomes one ModelSource with Hugging Face's tensor
// names. Nothing of the weights is read before the caller asks for a tensor.

import { InvalidFile } from "../errors.ts";
import { openGgufModel } from "./gguf_model.ts";
import { parseHfConfig } from "./hf_config.ts";
import { modelSource, type UnreadTensor } from "./model_source.ts";
import { isFile, readJsonObject, reason } from "./positioned_file.ts";
import { floatType, openSafetensors, type SafetensorsFile } from "./safetensors.ts";
import type { ModelSource } from "./source.ts";
import { readHfTokenizer } from "./tokenizer.ts";

/**
 * Opens a Hugging Face folder or a .gguf file without reading its weights.
 * @throws {InvalidFile} when something is missing, does not fit, or is not computed here
 */
export async function openModel(path: string): Promise<ModelSource> {
  const found = await statOf(path);
  return found.isDirectory ? openHfFolder(path) : openGgufModel(path);
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

async function statOf(path: string): Promise<Deno.FileInfo> {
  try {
    return await Deno.stat(path);
  } catch (error) {
    throw new InvalidFile(
      `Cannot open the model ${path}: ${
        reason(error)
      }; wanted a Hugging Face folder or a .gguf file`,
    );
  }
}
