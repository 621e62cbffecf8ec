// Rotary position embedding (Su et al. 2021) as Transformers lays it out: the pairs are (i, i + D/2).
// The angles are tabled on the CPU in f64, because adapters' sin and cos differ. The backward is the
// rotation by the negative angle.

import { f32Word, type Gpu } from "./gpu/gpu.ts";
import type { Kernel } from "./gpu/pipelines.ts";
import { elementCount, type Tensor } from "./gpu/tensor.ts";
import index from "./index.wgsl" with { type: "text" };
import code from "./rope.wgsl" with { type: "text" };

const workgroupSize = 64;
const rotate: Kernel = {
  label: "rope.rotate",
  code: index + code,
  entryPoint: "rotate",
  constants: { workgroup_size: workgroupSize },
};

/**
 * The table (positions, 2, D/2) f32 of cos and sin of position * frequency.
 * `frequencies` has D/2 entries, radians a position.
 */
export function ropeTable(
  positions: number,
  frequencies: ArrayLike<number>,
): Float32Array<ArrayBuffer> {
  const half = frequencies.length;
  const table = new Float32Array(positions * 2 * half);
  for (let position = 0; position < positions; position++) {
    for (let i = 0; i < half; i++) {
      // Transformers forms the angle in f32; so do we, then cos and sin in f64.
      const angle = Math.fround(position * Math.fround(frequencies[i]));
      table[position * 2 * half + i] = Math.cos(angle);
      table[position * 2 * half + half + i] = Math.sin(angle);
    }
  }
  return table;
}

function run(
  gpu: Gpu,
  { x, positions, table }: { x: Tensor; positions: Tensor; table: Tensor },
  direction: 1 | -1,
): void {
  const [, heads, headSize] = x.shape;
  if (x.shape.length !== 3 || headSize % 2 !== 0) {
    throw new RangeError(
      `Cannot rotate ${x.label} (${x.shape}): wanted (T, H, D) with D even`,
    );
  }
  const count = elementCount(x.shape) / 2;
  gpu.run(rotate, [x, positions, table], gpu.grid(Math.ceil(count / workgroupSize)), [
    count,
    heads,
    headSize / 2,
    f32Word(direction),
  ]);
}

/** Rotates x (T, H, D) f32 in place by its tokens' positions (T) u32. */
export function rope(
  gpu: Gpu,
  tensors: { x: Tensor; positions: Tensor; table: Tensor },
): void {
  run(gpu, tensors, 1);
}

/** Turns the gradient of rope's output into that of its input, in place. */
export function ropeBackward(
  gpu: Gpu,
  tensors: { x: Tensor; positions: Tensor; table: Tensor },
): void {
  run(gpu, tensors, -1);
}
