import { assert, assertStrictEquals } from "@std/assert";
import { whyUnusable } from "../../../lib/model/usable.ts";

import {
  ggufBytes,
  ggufFields,
  ggufTensors,
  hfConfigJson,
  inFolder,
  tinyConfig,
  tinyTensors,
  tinyTokens,
  writeHfFolder,
} from "./tiny_model.ts";

const root = new URL("../../../", import.meta.url).pathname;

/** That the reason names all of `words`. */
function unusable(path: string, ...words: string[]): void {
  const why = whyUnusable(path);
  assert(why !== null, `${path} counts as usable`);
  for (const word of words) assert(why.includes(word), `${word} in: ${why}`);
}

async function fifo(path: string): Promise<void> {
  assert((await new Deno.Command("mkfifo", { args: [path] }).output()).success);
}

Deno.test("usable: models that open", () =>
  inFolder(async (folder) => {
    assertStrictEquals(whyUnusable(`${root}models/tiny`), null);
    await writeHfFolder(`${folder}/hf`);
    assertStrictEquals(whyUnusable(`${folder}/hf`), null);
    await Deno.writeFile(`${folder}/a.gguf`, ggufBytes(ggufFields(), ggufTensors()));
    assertStrictEquals(whyUnusable(`${folder}/a.gguf`), null);
  }));

Deno.test("usable: a folder is refused with what is missing or not computed here", () =>
  inFolder(async (folder) => {
    const config = (change: Record<string, unknown>) =>
      Deno.writeTextFile(
        `${folder}/config.json`,
        JSON.stringify({ ...hfConfigJson(tinyConfig), ...change }),
      );
    unusable(folder, "config.json", "no such file");
    await writeHfFolder(folder);
    await config({ architectures: ["MixtralForCausalLM"] });
    unusable(folder, "MixtralForCausalLM");
    await config({ hidden_act: "gelu" });
    unusable(folder, "hidden_act");
    await Deno.writeTextFile(`${folder}/config.json`, "[".repeat(1_000_000));
    unusable(folder, "config.json", "64 deep");
    await config({});
    const tensors = tinyTensors(tinyConfig);
    tensors.delete("model.norm.weight");
    await writeHfFolder(folder, tinyConfig, tensors);
    unusable(folder, "model.norm.weight", "missing");
    await writeHfFolder(folder);
    await Deno.truncate(`${folder}/model.safetensors`, 1000);
    unusable(folder, "truncated");
    await Deno.remove(`${folder}/model.safetensors`);
    unusable(folder, "model.safetensors.index.json");
    await Deno.remove(`${folder}/tokenizer.json`);
    unusable(folder, "tokenizer.json");
  }));

Deno.test("usable: a .gguf file is refused from its header, its tokens are passed over", () =>
  inFolder(async (folder) => {
    const path = `${folder}/a.gguf`;
    const many = Array.from({ length: 5000 }, (_, id) => tinyTokens[id] ?? `token ${id}`);
    const fields = {
      ...ggufFields(),
      "tokenizer.ggml.tokens": { strings: many },
      "tokenizer.ggml.scores": { f32s: many.map((_, id) => id) },
    };
    await Deno.writeFile(path, ggufBytes(fields, ggufTensors()));
    assertStrictEquals(whyUnusable(path), null);
    const tokenizer = { ...fields, "tokenizer.ggml.pre": { string: "viking" } };
    await Deno.writeFile(path, ggufBytes(tokenizer, ggufTensors()));
    unusable(path, "tokenizer.ggml.pre", "viking");
    const { "output_norm.weight": _, ...fewer } = ggufTensors();
    await Deno.writeFile(path, ggufBytes(fields, fewer));
    unusable(path, "model.norm.weight", "missing");
    await Deno.truncate(path, 60_000);
    unusable(path, "truncated");
    await Deno.writeTextFile(path, "x");
    unusable(path, "GGUF");
  }));

Deno.test("usable: what is no regular file is refused, never opened", () =>
  inFolder(async (folder) => {
    unusable(`${folder}/nowhere`, "nowhere");
    await fifo(`${folder}/a.gguf`);
    unusable(`${folder}/a.gguf`, "FIFO");
    await Deno.symlink("b", `${folder}/c`);
    await Deno.symlink("c", `${folder}/b`);
    unusable(`${folder}/b`, "b");
    for (const name of ["config.json", "tokenizer.json", "model.safetensors"]) {
      await writeHfFolder(`${folder}/hf`);
      await Deno.remove(`${folder}/hf/${name}`);
      await fifo(`${folder}/hf/${name}`);
      unusable(`${folder}/hf`, name);
      await Deno.remove(`${folder}/hf`, { recursive: true });
    }
  }));
