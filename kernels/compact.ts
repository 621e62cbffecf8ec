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

/** What the bytes and their segments are: codes (E) u8. */
interface Coded {
  codes: Tensor;
  segments: Segments;
}

/** The elements whose byte in `codes` (E) u8 has any of `bits` set: 1, 2 or 3. Reads back how many. */
export async function compactActive(gpu: Gpu, coded: Coded, bits: number): Promise<Indices> {
  const starts = gpu.scope(() => countedStarts(gpu, coded, bits));
  try {
    const found = (await gpu.readUints(starts))[coded.segments.count];
    return gpu.scope(() => written(gpu, coded, bits, starts, found));
  } finally {
    gpu.release(starts);
  }
}

/** The same where their number is known, and right; nothing is waited for. */
export function compactKnown(gpu: Gpu, coded: Coded, bits: number, known: number): Indices {
  return gpu.scope(() => {
    const starts = countedStarts(gpu, coded, bits);
    const indices = written(gpu, coded, bits, starts, known);
    gpu.release(starts);
    return indices;
  });
}

const gridOf = (gpu: Gpu, { segments }: Coded) =>
  gpu.grid(Math.ceil(segments.count / workgroupSize));

/** Where each segment's indices begin, and their number at the end. */
function countedStarts(gpu: Gpu, coded: Coded, bits: number): Tensor {
  const { codes, segments } = coded;
  const starts = gpu.tensor("compact.starts", [segments.count + 1], "u32");
  gpu.run(count, [codes, segments.table, starts], gridOf(gpu, coded), [segments.count, bits]);
  gpu.run(scan, [starts], [1], [segments.count, bits]);
  return starts;
}

function written(gpu: Gpu, coded: Coded, bits: number, starts: Tensor, found: number): Indices {
  const { codes, segments } = coded;
  // One word more than is shown takes what the kernel has to put somewhere.
  const list = gpu.tensor("active.indices", [found + 1], "u32");
  const bindings = [codes, segments.table, starts, list];
  gpu.run(write, bindings, gridOf(gpu, coded), [segments.count, bits]);
  const length = Math.max(found, 1);
  return { indices: { ...list, shape: [length], sizeBytes: 4 * length }, count: found };
}
