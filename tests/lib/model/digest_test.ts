import { assert, assertStrictEquals } from "@std/assert";
import type { ModelConfig } from "../../../lib/model/config.ts";
import { openModel } from "../../../lib/model/open.ts";
import { writeSafetensors } from "../../../lib/model/safetensors.ts";

import {
  ggufBytes,
  ggufFields,
  ggufTensors,
  inFolder,
  tinyConfig,
  tinyTensors,
  writeHfFolder,
} from "./tiny_model.ts";

async function digestOf(path: string): Promise<string> {
  const source = await openModel(path);
  try {
    return source.digest();
  } finally {
    source.close();
  }
}

Deno.test("digest: the same weights in another order of files, another tokenizer or name", () =>
  inFolder(async (folder) => {
    await writeHfFolder(`${folder}/a`);
    const wanted = await digestOf(`${folder}/a`);
    assert(/^sha256-samples:[0-9a-f]{64}$/.test(wanted));
    await writeHfFolder(`${folder}/b`, { ...tinyConfig, maxPositions: 64 }, null);
    const shards = [new Map(), new Map()];
    const weight_map: Record<string, string> = {};
    [...tinyTensors(tinyConfig)].forEach(([name, tensor], i) => {
      shards[i % 2].set(name, tensor);
      weight_map[name] = `part${i % 2}.safetensors`;
    });
    for (const [i, shard] of shards.entries()) {
      await writeSafetensors(`${folder}/b/part${i}.safetensors`, shard);
    }
    const index = JSON.stringify({ weight_map });
    await Deno.writeTextFile(`${folder}/b/model.safetensors.index.json`, index);
    assertStrictEquals(await digestOf(`${folder}/b`), wanted);
  }));

Deno.test("digest: one element at any end or in the middle of any tensor, or a constant, tells", () =>
  inFolder(async (folder) => {
    const seen = new Set<string>();
    const isNew = async (config: ModelConfig, tensors = tinyTensors(config)) => {
      await writeHfFolder(folder, config, tensors);
      const digest = await digestOf(folder);
      assert(!seen.has(digest));
      seen.add(digest);
    };
    // 8 KiB in the largest tensor, so that there are parts between the samples.
    const config = { ...tinyConfig, intermediateSize: 256 };
    await isNew(config);
    for (const name of tinyTensors(config).keys()) {
      for (const where of [0, 0.5, 1]) {
        const tensors = tinyTensors(config);
        const values = tensors.get(name)!.bytes as Float32Array;
        values[Math.round((values.length - 1) * where)] += 1;
        await isNew(config, tensors);
      }
    }
    await isNew({ ...config, ropeTheta: 20000 });
    await isNew({ ...config, rmsNormEps: 1e-6 });
    const json = JSON.parse(await Deno.readTextFile(`${folder}/config.json`));
    json.rope_scaling = { rope_type: "linear", factor: 2 };
    await Deno.writeTextFile(`${folder}/config.json`, JSON.stringify(json));
    assert(!seen.has(await digestOf(folder)));
  }));

Deno.test("digest: a GGUF file has one of its own", () =>
  inFolder(async (folder) => {
    const path = `${folder}/tiny.gguf`;
    const write = (change: (values: Float32Array) => void) => {
      const tensors = ggufTensors();
      const last = Object.values(tensors).at(-1)!;
      change(new Float32Array(last.bytes.buffer));
      return Deno.writeFile(path, ggufBytes(ggufFields(), tensors));
    };
    await write(() => {});
    const first = await digestOf(path);
    assertStrictEquals(await digestOf(path), first);
    await write((values) => values[values.length - 1] += 1);
    assert(await digestOf(path) !== first);
  }));
