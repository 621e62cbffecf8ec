// Damaged models and adapters through the real readers: each one must be read or refused, within a second
// and twice its size and 64 MiB of memory. A mutant is named by its format and number, which make it again.
// Of JSON every other mutant is damaged as a value and not as bytes, or hardly one would get past the parser.

import { writeAdapter } from "../../lib/lora/adapter_file.ts";
import { loraLayout } from "../../lib/lora/layout.ts";
import { openHfFolder } from "../../lib/model/open.ts";
import {
  ggufBytes,
  ggufFields,
  ggufTensors,
  hfConfigJson,
  template,
  tinyConfig,
  tinyTensors,
  writeHfFolder,
} from "../lib/model/tiny_model.ts";
import { GuardedReader } from "./guarded_reader.ts";
import { mutate } from "./mutate.ts";
import { mutateJson } from "./mutate_json.ts";
import { fuzz, type FuzzReport } from "./report.ts";

const deadlineMs = 1000;
/** Room for the tokenizers below. */
const config = { ...tinyConfig, vocabSize: 768, eosTokens: [0], bosToken: null };
const utf8 = (text: string) => new TextEncoder().encode(text);
const json = (value: unknown) => utf8(JSON.stringify(value));
const local = (path: string) => Deno.readTextFile(new URL(path, import.meta.url));

interface Format {
  /** The file to damage, in the folder `hf`, `adapter`, or beside them. */
  file: string;
  originals(): Promise<Uint8Array[]>;
  /** Damages a file as what it holds. */
  mutate?(original: Uint8Array, seed: number): Uint8Array;
}

const asJson = (original: Uint8Array, seed: number) =>
  json(mutateJson(JSON.parse(new TextDecoder().decode(original)), seed));

/** The header damaged, and its length right. */
function asSafetensors(original: Uint8Array, seed: number): Uint8Array {
  const length = Number(new DataView(original.buffer).getBigUint64(0, true));
  const header = asJson(original.subarray(8, 8 + length), seed);
  const out = new Uint8Array(8 + header.length + original.length - 8 - length);
  new DataView(out.buffer).setBigUint64(0, BigInt(header.length), true);
  out.set(header, 8);
  out.set(original.subarray(8 + length), 8 + header.length);
  return out;
}

/** Only what stands before the tensors damaged. */
function ggufHeader(original: Uint8Array, seed: number): Uint8Array {
  const headerBytes = original.length - 5000;
  const header = mutate(original.subarray(0, headerBytes), seed);
  const out = new Uint8Array(header.length + 5000);
  out.set(header);
  out.set(original.subarray(headerBytes), header.length);
  return out;
}

async function tokenizers(): Promise<Uint8Array[]> {
  const { models, cases } = JSON.parse(await local("../golden/tokenizers/cases.json"));
  const chosen = ["llama 2", "llama 3", "gpt 4o", "added tokens, all, normalized"];
  const whole = cases.filter(({ name }: { name: string }) => chosen.includes(name)).map(
    ({ tokenizer }: { tokenizer: { model: string } }) =>
      json({ ...tokenizer, model: models[tokenizer.model] }),
  );
  return [utf8(await local("../../models/tiny/tokenizer.json")), ...whole];
}

/** A whole model in `hf` of a folder, and an adapter of it in `adapter`. */
async function writeWhole(folder: string): Promise<void> {
  await writeHfFolder(`${folder}/hf`, config, tinyTensors(config));
  const source = openHfFolder(`${folder}/hf`);
  const digest = source.digest();
  source.close();
  const target_modules = ["q_proj", "down_proj"] as const;
  const settings = { r: 4, lora_alpha: 16, use_rslora: false, target_modules };
  const layout = loraLayout(config, settings);
  const phi = new Float32Array(layout.elements).fill(0.5);
  const adapter = { settings, layout, phi, residual: phi.slice() };
  await writeAdapter(`${folder}/adapter`, { name: "org/name", digest }, adapter, 0);
}

/** The bytes of a file of `writeWhole`. */
async function wholeFile(path: string): Promise<Uint8Array> {
  const folder = await Deno.makeTempDir();
  try {
    await writeWhole(folder);
    return await Deno.readFile(`${folder}/${path}`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

const templates = [
  template,
  "{%- set ns = namespace(last=messages|length - 1) %}{%- for message in messages[::-1] %}" +
  "{%- if message.role == 'user' and not message.content.startswith('<x>') %}{%- set ns.last = loop.index0 %}" +
  "{%- endif %}{%- endfor %}\n{% for m in messages %}\n  {% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}\n" +
  "{# #}{% endif %}{{- '<|' + m.role | title + '|>' ~ m.content.split('</think>')[-1].lstrip('\\n') | trim }}\n" +
  "{% endfor %}{% if add_generation_prompt %}{{ 'A: ' }}{% endif %}",
  "{% macro turn(m, end='') %}{{ m.role | upper }}: {{ m.content | tojson }}{{ end }}{% endmacro %}" +
  "{% for m in messages if m.role in ['user', 'assistant'] %}{{ turn(m, end=eos_token) }}{% endfor %}",
];

export const modelFormats: Record<string, Format> = {
  "tokenizer.json": { file: "hf/tokenizer.json", originals: tokenizers, mutate: asJson },
  "tokenizer_config.json": {
    file: "hf/tokenizer_config.json",
    originals: async () => [
      await wholeFile("hf/tokenizer_config.json"),
      json({
        chat_template: templates.map((text, i) => ({
          name: i ? `t${i}` : "default",
          template: text,
        })),
      }),
    ],
    mutate: asJson,
  },
  "chat_template.jinja": {
    file: "hf/chat_template.jinja",
    originals: () => Promise.resolve(templates.map(utf8)),
  },
  "config.json": {
    file: "hf/config.json",
    originals: () =>
      Promise.resolve([
        json(hfConfigJson(config)),
        json({
          ...hfConfigJson({ ...config, architecture: "llama" }),
          rope_parameters: {
            rope_type: "llama3",
            rope_theta: 1e4,
            factor: 8,
            low_freq_factor: 1,
            high_freq_factor: 4,
            original_max_position_embeddings: 64,
          },
        }),
      ]),
    mutate: asJson,
  },
  "safetensors": {
    file: "hf/model.safetensors",
    originals: async () => [await wholeFile("hf/model.safetensors")],
    mutate: asSafetensors,
  },
  "gguf": {
    file: "model.gguf",
    originals: () => Promise.resolve([ggufBytes(ggufFields(), ggufTensors())]),
    mutate: ggufHeader,
  },
  "adapter_config.json": {
    file: "adapter/adapter_config.json",
    originals: async () => [await wholeFile("adapter/adapter_config.json")],
    mutate: asJson,
  },
  "lorapar.json": {
    file: "adapter/lorapar.json",
    originals: async () => [await wholeFile("adapter/lorapar.json")],
    mutate: asJson,
  },
  "adapter safetensors": {
    file: "adapter/adapter_model.safetensors",
    originals: async () => [await wholeFile("adapter/adapter_model.safetensors")],
    mutate: asSafetensors,
  },
};

/** Reads mutants number `first` and following of a format. */
export async function fuzzModels(name: string, count: number, first = 0): Promise<FuzzReport> {
  const format = modelFormats[name];
  const originals = await format.originals();
  const folder = await Deno.makeTempDir({ prefix: "lorapar-fuzz-" });
  await writeWhole(folder);
  const path = format.file === "model.gguf" ? `${folder}/model.gguf` : `${folder}/hf`;
  const adapter = format.file.startsWith("adapter/") ? `${folder}/adapter` : null;
  const whole = { path: `${folder}/hf`, adapter: null };
  const reader = new GuardedReader(
    deadlineMs,
    import.meta.resolve("./model_reader_worker.ts"),
    whole,
  );
  try {
    return await fuzz(name, { count, first }, async (number) => {
      const original = originals[number % originals.length];
      // The number of the pass over the originals, so that each is damaged in both ways.
      const asValue = format.mutate && Math.floor(number / originals.length) % 2 === 1;
      const bytes = asValue
        ? format.mutate!(original, number)
        : mutate(original, number, originals);
      await Deno.writeFile(`${folder}/${format.file}`, bytes);
      return { outcome: await reader.ask({ path, adapter }), sizeBytes: bytes.length };
    });
  } finally {
    reader.close();
    await Deno.remove(folder, { recursive: true });
  }
}
