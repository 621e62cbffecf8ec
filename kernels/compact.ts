// The ascending list of the elements a phase trains, from the byte each element has (regions.ts).

import type { Gpu } from "./gpu/gpu.ts";
import type { Kernel } from "./gpu/pipelines.ts";
import type { Tensor } from "./gpu/tensor.ts";
import code from "./compact.wgsl" with { type: "text" };
import type { Segments } from "./regions.ts";

const workgroupSize = 32;
const kernel = (entryPoint: string): Kernel => ({
  label: `compact.${entryPoint}`,
  code,
  entryPoint,
  constants: { workgroup_size: workgroupSize },
});
const count = kernel("count");
const scan: Kernel = { label: "compact.scan", code, entryPoint: "scan" };
const write = kernel("write");

/** Active elements, ascending. */
export interface Indices {
  /** (count) u32; at least one word long. */
  indices: Tensor;
  count: number;
}

/**
 * The elements whose byte in `codes` (E) u8 has any of `bits` set: 1, 2 or 3. With `known` their
 * number must be right and nothing is waited for; without, it is read back.
 */
export async function compactActive(
  gpu: Gpu,
  { codes, segments }: { codes: Tensor; segments: Segments },
  bits: number,
  known?: number,
): Promise<Indices> {
  const params = [segments.count, bits];
  const grid = gpu.grid(Math.ceil(segments.count / workgroupSize));
  const starts = gpu.scope(() => {
    const counted = gpu.tensor("compact.starts", [segments.count + 1], "u32");
    gpu.run(count, [codes, segments.table, counted], grid, params);
    gpu.run(scan, [counted], [1], params);
    return counted;
  });
  let found: number;
  let list: Tensor;
  try {
    found = known ?? (await gpu.readUints(starts))[segments.count];
    list = gpu.scope(() => {
      // One word more than is shown takes what the kernel has to put somewhere.
      const indices = gpu.tensor("active.indices", [found + 1], "u32");
      gpu.run(write, [codes, segments.table, starts, indices], grid, params);
      return indices;
    });
  } finally {
    gpu.release(starts);
  }
  const length = Math.max(found, 1);
  return { indices: { ...list, shape: [length], sizeBytes: 4 * length }, count: found };
}
