// Frees the GPU objects that JavaScript has dropped. A bind group has no destroy(): it lives until the
// garbage collector finds it, which knows nothing of its weight. On lavapipe each holds one memory
// mapping, and past Linux' 65,530 of them the driver does not fail but crashes the process.

import v8 from "node:v8";
import vm from "node:vm";

let collect: (() => void) | null = null;

/** Runs the garbage collector of this thread; 50-100 ms. */
export function collectGarbage(): void {
  if (!collect) {
    v8.setFlagsFromString("--expose-gc");
    collect = vm.runInNewContext("gc") as () => void;
  }
  collect();
}
