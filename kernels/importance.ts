// Importance of each LoRA element (arXiv 2507.20999, equation of section 3.3; METHOD.md 2):
//   I = | mean_i(g_i) phi - 1/2 mean_i(g_i^2) phi^2 | = |S1 - S2/2| / N,
//   S1 = sum_i g_i phi, S2 = sum_i (g_i phi)^2, g_i the gradient of example i's loss.
// f32 throughout. The sums are compensated, so each is within about two roundings (1.2e-7) of the
// sum of its terms' magnitudes, for any N; plain f32 sums would lose up to N roundings.

import { f32Word, type Gpu } from "./gpu/gpu.ts";
import type { Kernel } from "./gpu/pipelines.ts";
import type { Tensor } from "./gpu/tensor.ts";
import { elementCount } from "./gpu/tensor.ts";
import code from "./importance.wgsl" with { type: "text" };
import { vec4View } from "./vec4_view.ts";

const workgroupSize = 64;
const kernel = (entryPoint: string): Kernel => ({
  label: `importance.${entryPoint}`,
  code,
  entryPoint,
  constants: { workgroup_size: workgroupSize },
});
const accumulate = kernel("accumulate");
const finish = kernel("finish");

/** Running sums over the examples of one system, each (E) f32. */
export interface ImportanceSums {
  s1: Tensor;
  s2: Tensor;
  /** What the sums' last additions lost. */
  carry1: Tensor;
  carry2: Tensor;
}

/** Sums of zero for `elements` LoRA elements. */
export function importanceSums(gpu: Gpu, label: string, elements: number): ImportanceSums {
  const zeros = (name: string) => gpu.zeros(`${label}.${name}`, [elements]);
  return {
    s1: zeros("s1"),
    s2: zeros("s2"),
    carry1: zeros("carry1"),
    carry2: zeros("carry2"),
  };
}

/** Adds one example: its gradient g (E) f32 at phi (E) f32. */
export function accumulateImportance(
  gpu: Gpu,
  { g, phi, sums }: { g: Tensor; phi: Tensor; sums: ImportanceSums },
): void {
  const elements = elementCount(phi.shape);
  for (const { label, shape } of [g, sums.s1]) {
    if (elementCount(shape) === elements) continue;
    throw new RangeError(
      `Cannot accumulate importance: ${label} has the shape (${shape}), phi (${phi.shape})`,
    );
  }
  const tensors = [g, phi, sums.s1, sums.s2, sums.carry1, sums.carry2];
  gpu.run(accumulate, tensors.map(vec4View), gpu.grid(Math.ceil(elements / 4 / workgroupSize)), [
    elements,
    f32Word(1),
  ]);
}

/** importance (E) f32 from the sums over `examples` examples. */
export function finishImportance(
  gpu: Gpu,
  { sums, importance }: { sums: ImportanceSums; importance: Tensor },
  examples: number,
): void {
  const elements = elementCount(sums.s1.shape);
  const tensors = [sums.s1, sums.s2, importance];
  gpu.run(finish, tensors.map(vec4View), gpu.grid(Math.ceil(elements / 4 / workgroupSize)), [
    elements,
    f32Word(examples),
  ]);
}
