// Picks the fastest of several kernels that compute the same thing, by measuring them on the real
// shapes on this adapter, and remembers the choice on disk. A choice is read back synchronously
// through `gpu.choices`, so dispatchers stay synchronous.

import type { Gpu } from "./gpu.ts";

export interface Candidate {
  name: string;
  /** Records the dispatches once. */
  record(): void;
}

/** Choices by adapter, then by operation and shape class. */
type Store = Record<string, Record<string, string>>;

const adapterKey = (gpu: Gpu) =>
  `${gpu.facts.vendor} ${gpu.facts.architecture} ${gpu.facts.description}`;

/** Loads the choices an earlier run made on this adapter. A damaged file is as good as none. */
export async function loadChoices(gpu: Gpu, path: string): Promise<void> {
  const store = await readStore(path);
  for (const [key, name] of Object.entries(store[adapterKey(gpu)] ?? {})) {
    gpu.choices.set(key, name);
  }
}

/** Saves the choices made so far, next to those of other adapters. */
export async function saveChoices(gpu: Gpu, path: string): Promise<void> {
  const store = await readStore(path);
  store[adapterKey(gpu)] = Object.fromEntries(gpu.choices);
  const temporary = `${path}.${crypto.randomUUID()}`;
  await Deno.writeTextFile(temporary, JSON.stringify(store, null, 2));
  await Deno.rename(temporary, path);
}

async function readStore(path: string): Promise<Store> {
  try {
    return JSON.parse(await Deno.readTextFile(path)) as Store;
  } catch {
    return {};
  }
}

/**
 * The name of the fastest candidate for `key`, measured once (best of three after a warm-up).
 * A candidate that fails to compile or takes over 3 s to its first result is left out.
 */
export async function fastest(gpu: Gpu, key: string, candidates: Candidate[]): Promise<string> {
  const known = gpu.choices.get(key);
  if (known && candidates.some(({ name }) => name === known)) return known;
  let best = candidates[0].name;
  let bestSeconds = Infinity;
  for (const { name, record } of candidates) {
    const begin = performance.now();
    await gpu.measure(record);
    if (performance.now() - begin > 3000 && candidates.length > 1) continue;
    let seconds = Infinity;
    for (let round = 0; round < 3; round++) {
      seconds = Math.min(seconds, await gpu.measure(record));
    }
    if (seconds < bestSeconds) [best, bestSeconds] = [name, seconds];
  }
  gpu.choices.set(key, best);
  return best;
}
