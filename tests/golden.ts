// Opens a golden case (tests/golden/README.md) on the GPU: model, adapter, values.

import type { Gpu } from "../kernels/gpu/gpu.ts";
import { pack, type PackedBatch } from "../lib/data/pack.ts";
import { type Adapter, uploadAdapter } from "../lib/lora/adapter.ts";
import { type LoraLayout, loraLayout } from "../lib/lora/layout.ts";
import { type Projection, projections } from "../lib/model/config.ts";
import { type Decoder, loadDecoder } from "../lib/model/decoder.ts";
import { openHfFolder } from "../lib/model/open.ts";
import { openSafetensors } from "../lib/model/safetensors.ts";
import type { ChatTokenizer } from "../lib/model/tokenizer.ts";

/** Golden models come without a tokenizer. */
const noTokenizer = { eosTokens: [] } as unknown as ChatTokenizer;

export const goldenCases = ["llama_gqa_tied", "llama_untied", "qwen2", "qwen3"] as const;

export interface GoldenCase {
  decoder: Decoder;
  layout: LoraLayout;
  adapter: Adapter;
  // deno-lint-ignore no-explicit-any
  json: any;
  floats(name: string): Float32Array | Float64Array;
  integers(name: string): number[];
  has(name: string): boolean;
  /** The samples stored under a prefix ("" or "system1." …), one packed batch for all. */
  samples(prefix: string): { tokens: Uint32Array; promptLength: number }[];
  packed(prefix: string): PackedBatch;
}

/** Loads one case; its adapter is trainable. */
export async function openGolden(gpu: Gpu, name: string): Promise<GoldenCase> {
  const folder = new URL(`./golden/${name}/`, import.meta.url).pathname;
  const source = openHfFolder(`${folder}model`, () => noTokenizer);
  const decoder = await loadDecoder(gpu, source);
  source.close();
  const json = JSON.parse(await Deno.readTextFile(`${folder}values.json`));
  const values = openSafetensors(`${folder}values.safetensors`);
  const used = projections.filter((projection) =>
    json.lora_layout.some((entry: { name: string }) => entry.name.includes(projection))
  ) as Projection[];
  const layout = loraLayout(decoder.config, { r: json.lora.r, target_modules: used });
  const floats = (tensor: string) => {
    const { dtype, bytes } = values.read(tensor);
    return dtype === "F64"
      ? new Float64Array(bytes.slice().buffer)
      : values.readFloat32(tensor).data;
  };
  const integers = (tensor: string) => {
    const { dtype, bytes } = values.read(tensor);
    return [...(dtype === "U8" ? bytes : new Int32Array(bytes.slice().buffer))];
  };
  const samples = (prefix: string) => {
    const tokens = integers(`${prefix}tokens`);
    const starts = integers(`${prefix}starts`);
    return integers(`${prefix}prompt_lengths`).map((promptLength, s) => ({
      tokens: Uint32Array.from(tokens.slice(starts[s], starts[s + 1])),
      promptLength,
    }));
  };
  return {
    decoder,
    layout,
    adapter: uploadAdapter(gpu, layout, floats("phi") as Float32Array, {
      scale: json.lora.scale,
      trainable: true,
    }),
    json,
    floats,
    integers,
    has: (tensor) => values.tensors.has(tensor),
    samples,
    packed: (prefix) => pack(samples(prefix)),
  };
}
