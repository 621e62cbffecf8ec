// The values an adapter starts from, as the flat vector of layout.ts.
//   gaussian: A, B ~ N(0, 0.01^2), as the authors of LoRA-PAR draw them.
//   default:  A ~ U(-1/sqrt(in), 1/sqrt(in)) (Kaiming with a = sqrt(5), as PEFT), B = 0.
//   pissa:    W ~ U S V^T; B = U_r sqrt(S_r / scale), A = sqrt(S_r / scale) V_r^T (arXiv 2404.02948).
// With pissa the base is not rewritten here: its forward subtracts scale * B A of the start.
// Each matrix draws from its own generator, so its values depend on the seed and its name only.

import { NumericError } from "../errors.ts";
import { type LoraLayout, loraScale, type LoraTensor } from "./layout.ts";
import { randomGenerator } from "./random.ts";
import { truncatedSvd } from "./svd.ts";

export interface InitSettings {
  r: number;
  lora_alpha: number;
  use_rslora: boolean;
  init: "gaussian" | "default" | "pissa";
}

/** Reads a projection's weight (out, in) as f32, row-major, by its Hugging Face name. */
export type ReadWeight = (name: string) => Promise<Float32Array>;

/**
 * The start of an adapter, phi (elements) f32. `readWeight` is needed for pissa only; `onMatrix` is
 * told how many of the layout's pairs are done.
 * @throws {RangeError} when a weight has the wrong size, or pissa is asked without `readWeight`.
 * @throws {NumericError} when pissa meets a weight that is NaN or Inf.
 */
export async function initAdapter(
  layout: LoraLayout,
  settings: InitSettings,
  seed: number,
  options: { readWeight?: ReadWeight; onMatrix?: (done: number, total: number) => void } = {},
): Promise<Float32Array<ArrayBuffer>> {
  const phi = new Float32Array(layout.elements);
  if (settings.init === "pissa") {
    await initPissa(phi, layout, loraScale(settings), seed, options);
    return phi;
  }
  for (const tensor of layout.tensors) {
    const values = phi.subarray(tensor.offset, tensor.offset + tensor.rows * tensor.columns);
    const random = randomGenerator(seed, tensor.name);
    if (settings.init === "gaussian") {
      for (let i = 0; i < values.length; i++) values[i] = 0.01 * random.normal();
    } else if (tensor.matrix === "A") {
      const bound = 1 / Math.sqrt(tensor.columns);
      for (let i = 0; i < values.length; i++) values[i] = bound * (2 * random.uniform() - 1);
    }
  }
  return phi;
}

async function initPissa(
  phi: Float32Array,
  layout: LoraLayout,
  scale: number,
  seed: number,
  { readWeight, onMatrix }: {
    readWeight?: ReadWeight;
    onMatrix?: (done: number, total: number) => void;
  },
): Promise<void> {
  if (!readWeight) {
    throw new RangeError("Cannot start an adapter by pissa: the base's weights are needed");
  }
  const { r } = layout;
  const matricesA = layout.tensors.filter(({ matrix }) => matrix === "A");
  let done = 0;
  for (const { layer, projection, name } of matricesA) {
    const { offsetA, offsetB, inputs, outputs } = layout.pair(layer, projection)!;
    const weightName = name.replace(".lora_A.", ".");
    const weight = await readWeight(weightName);
    if (weight.length !== inputs * outputs) {
      throw new RangeError(
        `Cannot decompose ${weightName}: it has ${weight.length} elements, ` +
          `wanted ${outputs} x ${inputs}`,
      );
    }
    if (!weight.every(Number.isFinite)) {
      throw new NumericError(
        `Cannot start an adapter by pissa: ${weightName} holds NaN or Inf. Check the model's file, or use ` +
          'init "gaussian".',
      );
    }
    const { u, s, v } = truncatedSvd(weight, outputs, inputs, r, randomGenerator(seed, name));
    for (let k = 0; k < r; k++) {
      const root = Math.sqrt(s[k] / scale);
      for (let i = 0; i < inputs; i++) phi[offsetA + k * inputs + i] = root * v[i * r + k];
      for (let i = 0; i < outputs; i++) phi[offsetB + i * r + k] = root * u[i * r + k];
    }
    onMatrix?.(++done, matricesA.length);
  }
}

/** Whether every B is zero: the importance of such an adapter is identically zero (METHOD.md, 2). */
export function hasZeroB(layout: LoraLayout, phi: Float32Array): boolean {
  const isZero = ({ offset, rows, columns }: LoraTensor) =>
    phi.subarray(offset, offset + rows * columns).every((value) => value === 0);
  return layout.tensors.filter(({ matrix }) => matrix === "B").every(isZero);
}
