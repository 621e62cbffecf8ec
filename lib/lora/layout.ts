// Where each LoRA element of an adapter lies. All of them share one flat f32 vector, `phi`, and so do
// their gradients, importances, regions and moments: by layer, then by projection in the order of the
// forward pass, then A (R, in) row-major, then B (out, R) row-major. Nothing is padded.

import { InvalidFile } from "../errors.ts";
import {
  type ModelConfig,
  type Projection,
  projectionPath,
  projections,
  projectionShape,
} from "../model/config.ts";

/** One LoRA matrix in the flat order. */
export interface LoraTensor {
  /** PEFT's name without `base_model.model.`, e.g. `model.layers.0.self_attn.q_proj.lora_A.weight`. */
  name: string;
  layer: number;
  projection: Projection;
  matrix: "A" | "B";
  /** First element in the flat vector. */
  offset: number;
  rows: number;
  columns: number;
}

/** A and B of one projection: A (R, inputs) at offsetA, B (outputs, R) at offsetB. */
export interface LoraPair {
  offsetA: number;
  offsetB: number;
  inputs: number;
  outputs: number;
}

export interface LoraLayout {
  /** R */
  r: number;
  /** Length of the flat vector. */
  elements: number;
  tensors: readonly LoraTensor[];
  /** Where a projection's factors lie, or null when it has no LoRA. */
  pair(layer: number, projection: Projection): LoraPair | null;
}

/** The flat order of an adapter with these settings on this model. */
export function loraLayout(
  config: ModelConfig,
  settings: { r: number; target_modules: readonly Projection[] },
): LoraLayout {
  const targets: LoraTarget[] = [];
  for (let layer = 0; layer < config.layers; layer++) {
    for (const projection of projections) {
      if (!settings.target_modules.includes(projection)) continue;
      const [outputs, inputs] = projectionShape(config, projection);
      targets.push({ layer, projection, outputs, inputs });
    }
  }
  return layOut(settings.r, targets);
}

/** What PEFT multiplies B A x by: lora_alpha / r, or lora_alpha / sqrt(r) with rsLoRA. */
export function loraScale(
  settings: { r: number; lora_alpha: number; use_rslora: boolean },
): number {
  return settings.lora_alpha / (settings.use_rslora ? Math.sqrt(settings.r) : settings.r);
}

const namePattern = new RegExp(
  `^model\\.layers\\.(\\d+)\\.(?:self_attn|mlp)\\.(${
    projections.join("|")
  })\\.lora_([AB])\\.weight$`,
);

/**
 * The flat order of stored LoRA matrices, from their names and shapes alone.
 * @throws {InvalidFile} when a name is unknown, a factor is missing or the ranks differ.
 */
export function layoutOfTensors(
  shapes: ReadonlyMap<string, readonly number[]>,
  where: string,
): LoraLayout {
  const fail = (found: string) => new InvalidFile(`Cannot read the adapter in ${where}: ${found}`);
  const targets = new Map<string, LoraTarget>();
  let r = 0;
  for (const [name, shape] of shapes) {
    const [, layer, projection, matrix] = name.match(namePattern) ?? [];
    if (!matrix) throw fail(`${name} is not the name of a LoRA matrix`);
    if (shape.length !== 2 || shape.some((size) => size < 1)) {
      throw fail(`${name} has the shape (${shape.join(", ")}), wanted two sizes of 1 or more`);
    }
    const rank = matrix === "A" ? shape[0] : shape[1];
    r ||= rank;
    if (rank !== r) throw fail(`${name} has rank ${rank}, another tensor has ${r}`);
    const key = `${layer} ${projection}`;
    const target = targets.get(key) ??
      { layer: Number(layer), projection: projection as Projection, inputs: 0, outputs: 0 };
    if (matrix === "A") target.inputs = shape[1];
    else target.outputs = shape[0];
    targets.set(key, target);
  }
  if (targets.size === 0) throw fail("it holds no LoRA matrix");
  for (const { layer, projection, inputs, outputs } of targets.values()) {
    if (inputs && outputs) continue;
    throw fail(`${projectionPath(layer, projection)} lacks lora_${inputs ? "B" : "A"}.weight`);
  }
  const inOrder = [...targets.values()].sort((a, b) =>
    a.layer - b.layer || projections.indexOf(a.projection) - projections.indexOf(b.projection)
  );
  return layOut(r, inOrder);
}

interface LoraTarget {
  layer: number;
  projection: Projection;
  inputs: number;
  outputs: number;
}

function layOut(r: number, targets: readonly LoraTarget[]): LoraLayout {
  const tensors: LoraTensor[] = [];
  const pairs = new Map<string, LoraPair>();
  let offset = 0;
  for (const { layer, projection, inputs, outputs } of targets) {
    const path = projectionPath(layer, projection);
    const offsetA = offset;
    const offsetB = offsetA + r * inputs;
    tensors.push(
      {
        name: `${path}.lora_A.weight`,
        layer,
        projection,
        matrix: "A",
        offset: offsetA,
        rows: r,
        columns: inputs,
      },
      {
        name: `${path}.lora_B.weight`,
        layer,
        projection,
        matrix: "B",
        offset: offsetB,
        rows: outputs,
        columns: r,
      },
    );
    pairs.set(`${layer} ${projection}`, { offsetA, offsetB, inputs, outputs });
    offset = offsetB + outputs * r;
  }
  return {
    r,
    elements: offset,
    tensors,
    pair: (layer, projection) => pairs.get(`${layer} ${projection}`) ?? null,
  };
}
