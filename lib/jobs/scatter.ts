// Points for the paper's figure: each LoRA element's importance for System 1 against that for
// System 2, coloured by its region. Elements are taken at even distances over all tensors, so the
// same partition and count always give the same points.

import { openSafetensors } from "../model/safetensors.ts";

/** By the number in `<name>.region`. */
export const regions = ["inactive", "system1_only", "system2_only", "shared"] as const;

export interface ScatterPoint {
  system1: number;
  system2: number;
  region: typeof regions[number];
}

/**
 * At most `count` points of a partition folder and how many elements there are.
 * @throws {InvalidFile} when partition.safetensors is damaged.
 */
export async function scatterPoints(
  folder: string,
  count: number,
): Promise<{ points: ScatterPoint[]; elements: number }> {
  const file = openSafetensors(`${folder}/partition.safetensors`);
  try {
    const tensors = [...file.tensors].filter(([name]) => name.endsWith(".region"))
      .map(([name, { shape }]) => ({
        name: name.slice(0, -".region".length),
        elements: shape.reduce((product, size) => product * size, 1),
      }));
    const elements = tensors.reduce((sum, tensor) => sum + tensor.elements, 0);
    const wanted = Math.min(count, elements);
    const points: ScatterPoint[] = [];
    const place = (index: number) => Math.floor(((index + 0.5) * elements) / wanted);
    let first = 0;
    for (const tensor of tensors) {
      const end = first + tensor.elements;
      if (points.length < wanted && place(points.length) < end) {
        const one = file.readFloat32(`${tensor.name}.importance.system1`).data;
        const two = file.readFloat32(`${tensor.name}.importance.system2`).data;
        const region = file.read(`${tensor.name}.region`).bytes;
        for (let at; points.length < wanted && (at = place(points.length)) < end;) {
          points.push({
            system1: one[at - first]!,
            system2: two[at - first]!,
            region: regions[region[at - first]!] ?? "inactive",
          });
        }
        // Reading is synchronous; other requests get their turn between tensors.
        await new Promise((resolve) => setTimeout(resolve));
      }
      first = end;
    }
    return { points, elements };
  } finally {
    file.close();
  }
}
