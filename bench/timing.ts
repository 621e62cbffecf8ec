// Timing that two processes can be compared by on a busy machine: on a software adapter the work is
// on the CPU, so the CPU time of the process, spread over the cores, leaves the neighbours out.

import process from "node:process";

const rounds = 4;
/** Repeats that fill about this long, so that a sync's 11 ms do not count. */
const fillSeconds = 0.3;

export const cores = navigator.hardwareConcurrency;

/** CPU seconds of this process over the cores, best of some rounds, for one of `run`'s repeats. */
export async function bestSeconds(run: (count: number) => Promise<void>): Promise<number> {
  await run(1);
  const once = await cpuSeconds(run, 2);
  const count = Math.max(2, Math.min(100, Math.ceil(fillSeconds / once)));
  let best = Infinity;
  for (let round = 0; round < rounds; round++) best = Math.min(best, await cpuSeconds(run, count));
  return best;
}

async function cpuSeconds(run: (count: number) => Promise<void>, count: number): Promise<number> {
  const begin = process.cpuUsage();
  await run(count);
  const { user, system } = process.cpuUsage(begin);
  return (user + system) / 1e6 / cores / count;
}
