// LoRA adapters as PEFT stores them: adapter_config.json and adapter_model.safetensors with names such as
// base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight, A (R, in) and B (out, R); the module
// computes W x + scale B A x with scale = lora_alpha / r, or lora_alpha / sqrt(r) with rsLoRA.
// Only plain LoRA of one rank is read; whatever else PEFT can store would change the numbers and is
// refused by name. Format: PEFT's LoraConfig and save_pretrained.

import { InvalidFile } from "../errors.ts";
import { projections } from "../model/config.ts";
import { firstNonFinite } from "../model/floats.ts";
import { isFile, readJsonObject } from "../model/positioned_file.ts";
import { openSafetensors, writeSafetensors } from "../model/safetensors.ts";

/** The settings of adapter_config.json that we set. */
export interface PeftSettings {
  /** A name or path PEFT may load the base from, or null. */
  baseModel: string | null;
  r: number;
  loraAlpha: number;
  loraDropout: number;
  /** Last parts of module names, e.g. "q_proj". */
  targetModules: string[];
  useRslora: boolean;
  /** PEFT's init_lora_weights; true unless the base was changed at the start too (then e.g. "pissa"). */
  initLoraWeights: boolean | string;
}

/** A factor, row-major f32. */
export interface PeftTensor {
  shape: number[];
  data: Float32Array;
}

const prefix = "base_model.model.";
const configName = "adapter_config.json";
const weightsName = "adapter_model.safetensors";

/**
 * Writes an adapter folder that `PeftModel.from_pretrained` loads.
 * @param tensors by names without PEFT's prefix, e.g. `model.layers.0.self_attn.q_proj.lora_A.weight`
 */
export async function writePeftAdapter(
  folder: string,
  settings: PeftSettings,
  tensors: ReadonlyMap<string, PeftTensor>,
): Promise<void> {
  await Deno.mkdir(folder, { recursive: true });
  const stored = new Map(
    [...tensors].map(([name, { shape, data }]) =>
      [prefix + name, { dtype: "F32", shape, bytes: data }] as const
    ),
  );
  await writeSafetensors(`${folder}/${weightsName}`, stored, { format: "pt" });
  // The fields every PEFT since 0.10 knows; newer ones have defaults.
  const config = {
    alpha_pattern: {},
    auto_mapping: null,
    base_model_name_or_path: settings.baseModel,
    bias: "none",
    fan_in_fan_out: false,
    inference_mode: true,
    init_lora_weights: settings.initLoraWeights,
    layer_replication: null,
    layers_pattern: null,
    layers_to_transform: null,
    loftq_config: {},
    lora_alpha: settings.loraAlpha,
    lora_dropout: settings.loraDropout,
    megatron_config: null,
    megatron_core: "megatron.core",
    modules_to_save: null,
    peft_type: "LORA",
    r: settings.r,
    rank_pattern: {},
    revision: null,
    target_modules: settings.targetModules,
    task_type: "CAUSAL_LM",
    use_dora: false,
    use_rslora: settings.useRslora,
  };
  await Deno.writeTextFile(`${folder}/${configName}`, JSON.stringify(config, null, 2) + "\n");
}

/**
 * Reads an adapter folder; names come back without PEFT's prefix, factors as f32.
 * @throws {InvalidFile} when it is no plain LoRA, a factor is missing, of a wrong shape, or not finite
 */
export function readPeftAdapter(
  folder: string,
): { settings: PeftSettings; tensors: Map<string, PeftTensor> } {
  const config = readJsonObject(`${folder}/${configName}`);
  refuseOthers(config, folder);
  const settings = readSettings(config, folder);
  if (!isFile(`${folder}/${weightsName}`)) {
    throw new InvalidFile(
      `Cannot open the adapter ${folder}: it has no ${weightsName}; save it with save_pretrained(safe_serialization=True)`,
    );
  }
  const file = openSafetensors(`${folder}/${weightsName}`);
  try {
    const tensors = new Map<string, PeftTensor>();
    const modules = new Set<string>();
    for (const name of file.tensors.keys()) {
      const match = /^base_model\.model\.(.+\.(\w+))\.lora_([AB])\.weight$/.exec(name);
      if (!match) {
        throw new InvalidFile(
          `Cannot use the adapter ${folder}: tensor ${name} is no LoRA factor, wanted names such as ${prefix}model.layers.0.self_attn.q_proj.lora_A.weight`,
        );
      }
      const { shape, data } = file.readFloat32(name);
      checkFactor(name, match[3] as "A" | "B", shape, data, settings.r, folder);
      const other = `${prefix}${match[1]}.lora_${match[3] === "A" ? "B" : "A"}.weight`;
      if (!file.tensors.has(other)) {
        throw new InvalidFile(
          `Cannot use the adapter ${folder}: tensor ${other} is missing, ${name} is there`,
        );
      }
      modules.add(match[2]);
      tensors.set(name.slice(prefix.length), { shape, data });
    }
    if (tensors.size === 0) {
      throw new InvalidFile(`Cannot use the adapter ${folder}: it holds no LoRA factors`);
    }
    // From the tensors: the config may name modules by a pattern, or some that the model lacks.
    const order = (module: string) => (projections as readonly string[]).indexOf(module);
    const targetModules = [...modules].sort((a, b) => order(a) - order(b));
    return { settings: { ...settings, targetModules }, tensors };
  } finally {
    file.close();
  }
}

function checkFactor(
  name: string,
  factor: "A" | "B",
  shape: number[],
  data: Float32Array<ArrayBuffer>,
  r: number,
  folder: string,
): void {
  if (shape.length !== 2 || shape[factor === "A" ? 0 : 1] !== r) {
    const wanted = factor === "A" ? `(${r}, in)` : `(out, ${r})`;
    throw new InvalidFile(
      `Cannot use the adapter ${folder}: tensor ${name} has shape (${
        shape.join(", ")
      }), its config with r ${r} wants ${wanted}`,
    );
  }
  const bad = firstNonFinite("f32", new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  if (bad >= 0) {
    throw new InvalidFile(
      `Cannot use the adapter ${folder}: tensor ${name} holds NaN or Inf at element ${bad}`,
    );
  }
}

function refuseOthers(config: Record<string, unknown>, folder: string): void {
  const refuse = (field: string, wanted: string) => {
    throw new InvalidFile(
      `Cannot use the adapter ${folder}: ${field} is ${
        JSON.stringify(config[field])
      } in ${configName}, wanted ${wanted}`,
    );
  };
  if (config.peft_type !== "LORA") refuse("peft_type", '"LORA"');
  if ((config.bias ?? "none") !== "none") refuse("bias", '"none"');
  for (const field of ["rank_pattern", "alpha_pattern"]) {
    if (Object.keys(config[field] ?? {}).length > 0) {
      refuse(field, "{}: one rank and alpha for all");
    }
  }
  for (const field of ["use_dora", "lora_bias", "fan_in_fan_out", "use_qalora", "use_bdlora"]) {
    if (config[field]) refuse(field, "false");
  }
  const absent = ["modules_to_save", "layer_replication", "target_parameters"];
  for (const field of [...absent, "trainable_token_indices", "layers_to_transform"]) {
    const value = config[field];
    if (value && !(Array.isArray(value) && value.length === 0)) refuse(field, "null");
  }
  // These starts change the base weights as well, so the factors alone are not the adapter.
  const init = config.init_lora_weights;
  if (typeof init === "string" && /^(pissa|olora|corda|loftq)/.test(init)) {
    refuse(
      "init_lora_weights",
      "true (save it with path_initial_model_for_weight_conversion to make it an ordinary LoRA)",
    );
  }
}

function readSettings(config: Record<string, unknown>, folder: string): PeftSettings {
  const number = (field: string, fits: (value: number) => boolean, wanted: string): number => {
    const value = config[field];
    if (typeof value !== "number" || !fits(value)) {
      throw new InvalidFile(
        `Cannot use the adapter ${folder}: ${field} is ${JSON.stringify(value)}, wanted ${wanted}`,
      );
    }
    return value;
  };
  const init = config.init_lora_weights;
  const base = config.base_model_name_or_path;
  return {
    baseModel: typeof base === "string" ? base : null,
    r: number("r", (r) => Number.isSafeInteger(r) && r > 0, "a positive integer"),
    loraAlpha: number("lora_alpha", (a) => a > 0 && a < Infinity, "a positive number"),
    loraDropout: config.lora_dropout === undefined
      ? 0
      : number("lora_dropout", (p) => p >= 0 && p < 1, "a number in [0, 1)"),
    targetModules: [],
    useRslora: config.use_rslora === true,
    initLoraWeights: typeof init === "string" ? init : init !== false,
  };
}
