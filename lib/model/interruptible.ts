// Work that a thread can be torn out of. Ending a Worker does not stop a loop or a regular expression that
// it is in: the thread goes on and keeps a core busy until the process ends. A script of node:vm with a
// time limit does stop there. 0.02 ms a call.

import vm from "node:vm";

/** Longer than any text may take (lib/engine/text/stage.ts): who waits for it has given up before. */
export const longestMs = 40_000;

const key = Symbol.for("lorapar.interruptible");
const place = globalThis as unknown as Record<symbol, () => unknown>;
const script = new vm.Script(`globalThis[Symbol.for("lorapar.interruptible")]()`);

/**
 * What `work` answers; it must not be asynchronous.
 * @throws {Error} code "ERR_SCRIPT_EXECUTION_TIMEOUT" after `limitMs`, wherever `work` is by then.
 */
export function interruptible<T>(work: () => T, limitMs = longestMs): T {
  place[key] = work;
  return script.runInThisContext({ timeout: limitMs }) as T;
}
