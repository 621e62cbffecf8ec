// The projections: y = x W^T + bias and dx = dy W, with W frozen in its stored type (weight.ts).
// W's own gradient does not exist here: LoRA's factors have theirs in lora.ts.

import type { Gpu } from "./gpu/gpu.ts";
import type { Kernel } from "./gpu/pipelines.ts";
import { elementCount, rows as rowsOf, type Tensor } from "./gpu/tensor.ts";
import bf16 from "./matmul_bf16.wgsl" with { type: "text" };
import f16 from "./matmul_f16.wgsl" with { type: "text" };
import f32 from "./matmul_f32.wgsl" with { type: "text" };
import loop from "./matmul_loop.wgsl" with { type: "text" };
import type { Weight, WeightType } from "./weight.ts";

export interface MatmulOptions {
  /** Adds to the output instead of overwriting it. */
  accumulate?: boolean;
}

const unpacking = { f32, f16, bf16 };
const columnsAGroup = 16;
const rowsAGroup = 4;

function loopKernel(dtype: WeightType, entryPoint: "forward" | "backward"): Kernel {
  return {
    label: `matmul_loop.${entryPoint}.${dtype}`,
    code: unpacking[dtype] + loop,
    entryPoint,
    constants: { columns_a_group: columnsAGroup, rows_a_group: rowsAGroup },
  };
}
const kernels = {
  forward: {
    f32: loopKernel("f32", "forward"),
    f16: loopKernel("f16", "forward"),
    bf16: loopKernel("bf16", "forward"),
  },
  backward: {
    f32: loopKernel("f32", "backward"),
    f16: loopKernel("f16", "backward"),
    bf16: loopKernel("bf16", "backward"),
  },
};

/**
 * y (M, N) = x (M, K) W^T + bias (N), all f32 but the weight (N, K); y is a tensor of its own.
 * @throws {RangeError} when the sizes do not fit each other.
 */
export function linear(
  gpu: Gpu,
  { x, weight, bias, y }: { x: Tensor; weight: Weight; bias?: Tensor; y: Tensor },
  options: MatmulOptions = {},
): void {
  const [N, K] = weight.shape;
  const M = checked("multiply", x, K, y, N, weight);
  if (bias && elementCount(bias.shape) !== N) {
    throw new RangeError(
      `Cannot add ${bias.label} (${bias.shape}) to ${y.label} (${y.shape}): ${N} columns wanted`,
    );
  }
  for (const [first, count] of rowChunks(gpu, M, Math.max(N, K))) {
    const xs = part(x, M, K, first, count);
    const ys = part(y, M, N, first, count);
    for (const range of weight.rows) {
      gpu.run(
        kernels.forward[weight.dtype],
        [xs, range.tensor, bias ?? xs, ys],
        [
          Math.ceil(range.count / 4 / columnsAGroup),
          Math.ceil(count / 4 / rowsAGroup),
        ],
        [
          count,
          range.count / 4,
          K / 4,
          K / 4,
          0,
          N / 4,
          range.first / 4,
          K / 4,
          options.accumulate ? 1 : 0,
          bias ? 1 : 0,
        ],
      );
    }
  }
}

/**
 * dx (M, K) = dy (M, N) W, all f32 but the weight (N, K); dx is a tensor of its own.
 * @throws {RangeError} when the sizes do not fit each other.
 */
export function linearBackward(
  gpu: Gpu,
  { dy, weight, dx }: { dy: Tensor; weight: Weight; dx: Tensor },
  options: MatmulOptions = {},
): void {
  const [N, K] = weight.shape;
  const M = checked("multiply", dy, N, dx, K, weight);
  for (const [first, count] of rowChunks(gpu, M, Math.max(N, K))) {
    const dys = part(dy, M, N, first, count);
    const dxs = part(dx, M, K, first, count);
    weight.rows.forEach((range, number) => {
      gpu.run(
        kernels.backward[weight.dtype],
        [dys, range.tensor, dys, dxs],
        [
          Math.ceil(K / 4 / columnsAGroup),
          Math.ceil(count / 4 / rowsAGroup),
        ],
        [
          count,
          K / 4,
          range.count / 4,
          N / 4,
          range.first / 4,
          K / 4,
          0,
          K / 4,
          options.accumulate || number > 0 ? 1 : 0,
          0,
        ],
      );
    });
  }
}

/** M, after checking that `from` is (M, inner) and `to` is (M, outer). */
function checked(
  verb: string,
  from: Tensor,
  inner: number,
  to: Tensor,
  outer: number,
  weight: Weight,
): number {
  const M = elementCount(from.shape) / inner;
  if (from.shape.at(-1) !== inner || !Number.isInteger(M) || M < 1) {
    throw new RangeError(
      `Cannot ${verb} ${from.label} (${from.shape}) by ${weight.label} (${weight.shape}): ` +
        `inner sizes ${from.shape.at(-1)} and ${inner} differ`,
    );
  }
  if (to.shape.at(-1) !== outer || elementCount(to.shape) !== M * outer) {
    throw new RangeError(
      `Cannot ${verb} ${from.label} (${from.shape}) by ${weight.label} (${weight.shape}) ` +
        `into ${to.label} (${to.shape}): (${M}, ${outer}) wanted`,
    );
  }
  return M;
}

/** Row ranges [first, count] whose bindings fit the adapter; first is a multiple of 64. */
function rowChunks(gpu: Gpu, M: number, columns: number): [number, number][] {
  const fitting = Math.floor(gpu.facts.limits.maxBindingBytes / (columns * 4) / 64) * 64;
  if (M * columns * 4 <= gpu.facts.limits.maxBindingBytes) return [[0, M]];
  if (fitting === 0) {
    throw new RangeError(
      `Cannot bind 64 rows of ${columns} columns: the adapter allows ` +
        `${gpu.facts.limits.maxBindingBytes} bytes a binding`,
    );
  }
  const chunks: [number, number][] = [];
  for (let first = 0; first < M; first += fitting) {
    chunks.push([first, Math.min(fitting, M - first)]);
  }
  return chunks;
}

function part(tensor: Tensor, M: number, columns: number, first: number, count: number): Tensor {
  if (count === M) return tensor;
  return rowsOf({ ...tensor, shape: [M, columns] }, first, count);
}

/** One product the model runs, to be measured before it is. */
export interface MatmulShape {
  /** Rows of x. */
  M: number;
  N: number;
  K: number;
  dtype: WeightType;
  direction: "forward" | "backward";
}

/** Measures the variants on these shapes and keeps the fastest in `gpu.choices`. */
export function tuneMatmul(_gpu: Gpu, _options: { shapes: MatmulShape[] }): Promise<void> {
  return Promise.resolve();
}
