// A trained adapter as a PEFT folder and back to the flat vector. An adapter that started from PiSSA
// is written as an ordinary LoRA of rank 2r against the untouched base, B A - B0 A0 = [B -B0] [A; A0],
// so that every tool reads it; `lorapar.json` beside it says so, and training goes on from the halves.
// It also holds the digest of the base that the adapter was trained on, and another base is refused.

import { InvalidFile } from "../errors.ts";
import type { ModelConfig, Projection } from "../model/config.ts";
import { isFile, readJsonObject } from "../model/positioned_file.ts";
import type { ModelWeights } from "../model/source.ts";
import { type LoraLayout, loraLayout, loraScale } from "./layout.ts";
import { type PeftTensor, readPeftAdapter, writePeftAdapter } from "./peft.ts";

const noteName = "lorapar.json";

/** What `lorapar.json` holds; adapters of other programs have none, older ones of ours no digest. */
interface Note {
  pissa_doubled_rank: boolean;
  r: number;
  lora_alpha: number;
  base_digest?: string;
}

/** The base of an adapter: what its factors must fit, and which weights they were trained on. */
export type AdapterBase = Pick<ModelWeights, "config" | "digest">;

export interface AdapterSettings {
  r: number;
  lora_alpha: number;
  use_rslora: boolean;
  target_modules: readonly Projection[];
}

export interface AdapterFile {
  settings: AdapterSettings;
  layout: LoraLayout;
  /** (elements) f32 */
  phi: Float32Array<ArrayBuffer>;
  /** PiSSA's start, or null. */
  residual: Float32Array<ArrayBuffer> | null;
  scale: number;
}

/** Writes phi (and PiSSA's start, when there is one) as a PEFT folder for a base. */
export async function writeAdapter(
  folder: string,
  { name: baseModel, digest }: { name: string | null; digest: string },
  { settings, layout, phi, residual }: Omit<AdapterFile, "scale">,
  loraDropout: number,
): Promise<void> {
  const doubled = residual !== null;
  const { r } = settings;
  const growth = settings.use_rslora ? Math.SQRT2 : 2;
  const tensors = new Map<string, PeftTensor>();
  for (const { name, offset, rows, columns, matrix } of layout.tensors) {
    const data = phi.slice(offset, offset + rows * columns);
    if (!doubled) {
      tensors.set(name, { shape: [rows, columns], data });
      continue;
    }
    const start = residual.subarray(offset, offset + rows * columns);
    tensors.set(
      name,
      matrix === "A"
        ? { shape: [2 * rows, columns], data: Float32Array.from([...data, ...start]) }
        : { shape: [rows, 2 * columns], data: besides(data, start, rows, columns) },
    );
  }
  await writePeftAdapter(folder, {
    baseModel,
    r: doubled ? 2 * r : r,
    loraAlpha: doubled ? settings.lora_alpha * growth : settings.lora_alpha,
    loraDropout,
    targetModules: [...settings.target_modules],
    useRslora: settings.use_rslora,
    initLoraWeights: true,
  }, tensors);
  const note: Note = {
    pissa_doubled_rank: doubled,
    r,
    lora_alpha: settings.lora_alpha,
    base_digest: digest,
  };
  await Deno.writeTextFile(
    `${folder}/${noteName}`,
    JSON.stringify({ format: 1, ...note }, null, 2),
  );
}

/** [B, -B0]: rows of B with those of the start, negated, behind them. */
function besides(
  data: Float32Array,
  start: Float32Array,
  rows: number,
  columns: number,
): Float32Array {
  const both = new Float32Array(2 * rows * columns);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      both[row * 2 * columns + column] = data[row * columns + column];
      both[row * 2 * columns + columns + column] = -start[row * columns + column];
    }
  }
  return both;
}

/**
 * Reads a PEFT folder for a base.
 * @throws {InvalidFile} when it does not fit the base or our kernels, or was trained on other weights
 */
export function readAdapter(folder: string, base: AdapterBase): AdapterFile {
  requireBase(readNote(folder)?.base_digest, base, "adapter", "model");
  return readFactors(folder, base.config);
}

/**
 * Refuses what was made on other weights than a base has now; what records no digest is accepted.
 * @throws {InvalidFile} code "base_changed"
 */
export function requireBase(
  recorded: unknown,
  base: AdapterBase,
  what: "adapter" | "partition",
  param: string,
): void {
  if (typeof recorded !== "string" || recorded === base.digest()) return;
  throw new InvalidFile(
    `Cannot use the ${what}: it was made on other weights than its base has now (digest ${
      recorded.slice(0, 27)
    }…, now ${
      base.digest().slice(0, 27)
    }…). Put the old files of the base back, or make a new ${what}.`,
    param,
    "base_changed",
  );
}

function readFactors(folder: string, config: ModelConfig): AdapterFile {
  const { settings: peft, tensors } = readPeftAdapter(folder);
  if (peft.r % 4 !== 0) {
    throw new InvalidFile(
      `Cannot use the adapter in ${folder}: its rank r is ${peft.r}, only multiples of 4 are computed here`,
      "model",
    );
  }
  const settings: AdapterSettings = {
    r: peft.r,
    lora_alpha: peft.loraAlpha,
    use_rslora: peft.useRslora,
    target_modules: peft.targetModules as Projection[],
  };
  const layout = loraLayout(config, settings);
  const phi = new Float32Array(layout.elements);
  for (const { name, offset, rows, columns } of layout.tensors) {
    const tensor = tensors.get(name);
    if (!tensor || tensor.shape[0] !== rows || tensor.shape[1] !== columns) {
      throw new InvalidFile(
        `Cannot use the adapter in ${folder}: ${name} is ${
          tensor ? `(${tensor.shape})` : "missing"
        }, this base wants (${rows},${columns}). Use the base it was trained on.`,
        "model",
      );
    }
    phi.set(tensor.data, offset);
  }
  if (tensors.size > layout.tensors.length) {
    const known = new Set(layout.tensors.map(({ name }) => name));
    const extra = [...tensors.keys()].find((name) => !known.has(name));
    throw new InvalidFile(
      `Cannot use the adapter in ${folder}: this base has no place for ${extra}`,
      "model",
    );
  }
  return { settings, layout, phi, residual: null, scale: loraScale(settings) };
}

/**
 * Reads a PEFT folder to train it further: an adapter of doubled rank comes as its trained half, with
 * PiSSA's start beside it.
 */
export function readTrainableAdapter(folder: string, base: AdapterBase): AdapterFile {
  const whole = readAdapter(folder, base);
  const note = readNote(folder);
  if (!note?.pissa_doubled_rank) return whole;
  if (2 * note.r !== whole.settings.r) {
    throw new InvalidFile(
      `Cannot use ${folder}/${noteName}: it says rank ${note.r} was doubled, the adapter has ${whole.settings.r}`,
      "model",
    );
  }
  const settings = { ...whole.settings, r: note.r, lora_alpha: note.lora_alpha };
  const layout = loraLayout(base.config, settings);
  const phi = new Float32Array(layout.elements);
  const residual = new Float32Array(layout.elements);
  layout.tensors.forEach(({ offset, rows, columns, matrix }, i) => {
    const source = whole.layout.tensors[i];
    const wide = matrix === "A" ? columns : 2 * columns;
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        const to = offset + row * columns + column;
        const from = source.offset + row * wide + column;
        const other = matrix === "A" ? from + rows * columns : from + columns;
        phi[to] = whole.phi[from];
        residual[to] = matrix === "A" ? whole.phi[other] : -whole.phi[other];
      }
    }
  });
  return { settings, layout, phi, residual, scale: loraScale(settings) };
}

/** Our note beside an adapter, or null when another tool wrote it. @throws {InvalidFile} when it lies. */
function readNote(folder: string): Note | null {
  const path = `${folder}/${noteName}`;
  if (!isFile(path)) return null;
  const { pissa_doubled_rank, r, lora_alpha, base_digest } = readJsonObject(path);
  if (
    typeof pissa_doubled_rank !== "boolean" || typeof r !== "number" ||
    typeof lora_alpha !== "number" || !["string", "undefined"].includes(typeof base_digest)
  ) {
    throw new InvalidFile(
      `Cannot use ${path}: wanted pissa_doubled_rank, r, lora_alpha and base_digest as lorapar writes them`,
    );
  }
  return { pissa_doubled_rank, r, lora_alpha, base_digest: base_digest as string | undefined };
}
