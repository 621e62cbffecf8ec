// Opens a model: a Hugging Face folder or a GGUF file becomes one ModelSource with Hugging Face's tensor
// names. Nothing of the weights is read before the caller asks for a tensor.

import { InvalidFile } from "../errors.ts";
import type { ModelConfig } from "./config.ts";
import { openGgufModel, openGgufWeights } from "./gguf_model.ts";
import { hubNameOfFolder } from "./hub_name.ts";
import { parseHfConfig } from "./hf_config.ts";
import { computedTensors, modelSource, modelWeights, type UnreadTensor } from "./model_source.ts";
import { isFile, readJsonObject, reason } from "./positioned_file.ts";
import { floatType, openSafetensors, type SafetensorsFile } from "./safetensors.ts";
import type { ModelSource, ModelWeights } from "./source.ts";
import { resolveTiedHead } from "./tied_head.ts";
import { checkTokenizerFile, readHfTokenizer } from "./tokenizer.ts";

/**
 * Opens a Hugging Face folder or a .gguf file without reading its weights.
 * @throws {InvalidFile} when something is missing, does not fit, or is not computed here
 */
export async function openModel(path: string): Promise<ModelSource> {
  const found = await statOf(path);
  return found.isDirectory ? openHfFolder(path) : openGgufModel(path);
}

/**
 * Opens a model without its tokenizer and chat template, whose files are not looked at.
 * @throws {InvalidFile} as `openModel`, but for what is wrong there
 */
export async function openWeights(path: string): Promise<ModelWeights> {
  const found = await statOf(path);
  return found.isDirectory ? openHfWeights(path) : openGgufWeights(path);
}

/**
 * Opens a Hugging Face folder; golden models, which have no tokenizer, bring another `readTokenizer`.
 * @throws {InvalidFile} as `openModel`
 */
export function openHfFolder(folder: string, readTokenizer = readHfTokenizer): ModelSource {
  const config = readHfConfig(folder);
  const tokenizer = readTokenizer(folder, config);
  return withShards(
    folder,
    config,
    (config, tensors, origin) => modelSource(config, tokenizer, tensors, folder, origin),
  );
}

function openHfWeights(folder: string): ModelWeights {
  return withShards(
    folder,
    readHfConfig(folder),
    (config, tensors, origin) => modelWeights(config, tensors, folder, origin),
  );
}

/** Opens the weights' files; they stay open when `use` returns, and not when it throws. */
function withShards<T>(
  folder: string,
  config: ModelConfig,
  use: (
    config: ModelConfig,
    tensors: Shards["tensors"],
    origin: Pick<ModelWeights, "hubName" | "close">,
  ) => T,
): T {
  const { tensors, close } = openShards(folder);
  try {
    const used = resolveTiedHead(config, tensors);
    return use(used.config, used.tensors, { hubName: hubNameOfFolder(folder), close });
  } catch (error) {
    close();
    throw error;
  }
}

/**
 * Checks a Hugging Face folder without reading its tokenizer, which may take a second.
 * @throws {InvalidFile} as `openModel`, but for what is wrong inside tokenizer.json
 */
export function checkHfFolder(folder: string): void {
  const config = readHfConfig(folder);
  checkTokenizerFile(folder);
  const { tensors, close } = openShards(folder);
  try {
    // Without a look at the bytes: a stored head has the right shape, whether it is used or not.
    const used = resolveTiedHead(config, tensors, () => false);
    computedTensors(used.config, used.tensors, folder);
  } finally {
    close();
  }
}

function readHfConfig(folder: string): ModelConfig {
  const json = readJsonObject(`${folder}/config.json`);
  const generationPath = `${folder}/generation_config.json`;
  const generation = isFile(generationPath) ? readJsonObject(generationPath) : null;
  return parseHfConfig(json, generation, folder);
}

interface Shards {
  tensors: Map<string, UnreadTensor>;
  close(): void;
}

function openShards(folder: string): Shards {
  const shards: SafetensorsFile[] = [];
  const close = () => {
    for (const shard of shards.splice(0)) shard.close();
  };
  try {
    for (const name of shardNames(folder)) shards.push(openSafetensors(`${folder}/${name}`));
    return { tensors: tensorsOf(shards), close };
  } catch (error) {
    close();
    throw error;
  }
}

/** All are open at once, and a process that runs out of file descriptors ends. */
const maxShards = 512;

function shardNames(folder: string): string[] {
  if (isFile(`${folder}/model.safetensors`)) return ["model.safetensors"];
  const indexPath = `${folder}/model.safetensors.index.json`;
  if (!isFile(indexPath)) {
    throw new InvalidFile(
      `Cannot open the model ${folder}: it has neither model.safetensors nor model.safetensors.index.json; save it with save_pretrained(safe_serialization=True)`,
    );
  }
  const map = readJsonObject(indexPath).weight_map;
  if (typeof map !== "object" || map === null || Array.isArray(map)) {
    throw new InvalidFile(`Cannot use ${indexPath}: it has no weight_map of names to files`);
  }
  const names = [...new Set<unknown>(Object.values(map))];
  for (const name of names) {
    if (typeof name !== "string" || !/^[^/\\]+\.safetensors$/.test(name)) {
      throw new InvalidFile(
        `Cannot use ${indexPath}: weight_map names ${
          JSON.stringify(name)
        }, wanted a .safetensors file of the same folder`,
      );
    }
  }
  if (names.length === 0 || names.length > maxShards) {
    throw new InvalidFile(
      `Cannot use ${indexPath}: its weight_map names ${names.length} files, wanted 1 to ${maxShards}`,
    );
  }
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
      const stored = {
        type: dtype,
        sizeBytes: end - begin,
        read: (offset: number, length: number) => shard.readBytes(begin + offset, length),
      };
      found.set(name, { shape, sizeBytes: end - begin, read, stored });
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
