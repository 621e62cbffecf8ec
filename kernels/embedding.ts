// Token embedding: x[t] = W[token[t]], expanded to f32 from the stored type. W is frozen: no backward.

import index from "./index.wgsl" with { type: "text" };
import code from "./embedding.wgsl" with { type: "text" };
import type { Gpu } from "./gpu/gpu.ts";
import type { Kernel } from "./gpu/pipelines.ts";
import { elementCount, type Tensor } from "./gpu/tensor.ts";
import bf16 from "./matmul_bf16.wgsl" with { type: "text" };
import f16 from "./matmul_f16.wgsl" with { type: "text" };
import f32 from "./matmul_f32.wgsl" with { type: "text" };
import type { Weight } from "./weight.ts";

const workgroupSize = 64;
const kernel = (type: string, unpacking: string): Kernel => ({
  label: `embedding.forward.${type}`,
  code: index + unpacking + code,
  entryPoint: "forward",
  constants: { workgroup_size: workgroupSize },
});
const kernels = {
  f32: kernel("f32", f32),
  f16: kernel("f16", f16),
  bf16: kernel("bf16", bf16),
};

/** x (T, C) f32 = the rows `tokens` (T) u32 of weight (V, C); every id must be below V. @throws {RangeError} */
export function embedding(
  gpu: Gpu,
  { tokens, weight, x }: { tokens: Tensor; weight: Weight; x: Tensor },
): void {
  if (weight.rows.length === 0) {
    throw new RangeError(
      `Cannot look up rows of ${weight.label}: it was uploaded to be multiplied only`,
    );
  }
  const count = elementCount(x.shape) / 4;
  const columns4 = weight.shape[1] / 4;
  for (const { first, count: rows, tensor } of weight.rows) {
    gpu.run(
      kernels[weight.dtype],
      [tokens, tensor, x],
      gpu.grid(Math.ceil(count / workgroupSize)),
      [count, columns4, first, rows],
    );
  }
}
