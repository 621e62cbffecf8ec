// Picks the fastest of several kernels that compute the same thing, by measuring them on the real
// shapes on this adapter. A choice is read back synchronously through `gpu.choices`, so dispatchers
// stay synchronous; record.ts keeps it on disk.

import { GpuError } from "../../lib/errors.ts";
import type { Gpu } from "./gpu.ts";

export interface Candidate {
  name: string;
  /** Records the dispatches once. */
  record(): void;
}

/**
 * The name of the fastest candidate for `key`, measured once (best of three after a warm-up).
 * A candidate that the GPU refuses or that takes over 3 s to its first result is left out.
 * @throws {GpuError} when none is left.
 */
export async function fastest(gpu: Gpu, key: string, candidates: Candidate[]): Promise<string> {
  const known = gpu.choices.get(key);
  if (known !== undefined && candidates.some(({ name }) => name === known)) return known;
  let best: string | null = null;
  let bestSeconds = Infinity;
  const refusals: string[] = [];
  for (const { name, record } of candidates) {
    try {
      const seconds = await gpu.attempt(() => bestOfThree(gpu, record, candidates.length > 1));
      if (best === null || seconds < bestSeconds) [best, bestSeconds] = [name, seconds];
    } catch (error) {
      if (gpu.failed) throw error;
      refusals.push(`${name}: ${(error as Error).message}`);
    }
  }
  if (best === null) {
    throw new GpuError(
      `Cannot run ${key} on ${gpu.facts.description}: ${refusals.join("; ")}`,
      null,
      "kernel_error",
    );
  }
  gpu.choices.set(key, best);
  return best;
}

/** Seconds on the GPU; Infinity when the first run took over 3 s and there is another way. */
async function bestOfThree(
  gpu: Gpu,
  record: () => void,
  hasOthers: boolean,
): Promise<number> {
  const begin = performance.now();
  await gpu.measure(record);
  if (performance.now() - begin > 3000 && hasOthers) return Infinity;
  let seconds = Infinity;
  for (let round = 0; round < 3; round++) seconds = Math.min(seconds, await gpu.measure(record));
  return seconds;
}
