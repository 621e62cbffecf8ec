// lorapar doctor: what the GPU is, whether it computes rightly, and what is wrong.

import type { ServerConfig } from "../lib/jobs/config.ts";
import { startGpuEngine } from "./program.ts";

/** Prints the engine's report. @throws {GpuError} when there is no adapter. */
export async function doctor(config: ServerConfig): Promise<number> {
  const engine = startGpuEngine(config);
  try {
    printTree(await engine.run({ kind: "doctor" }));
    return 0;
  } finally {
    await engine.close();
  }
}

/** Prints names and values, nested ones indented, an empty one as "none". */
function printTree(value: unknown, indent = ""): void {
  for (const [name, inner] of Object.entries(value as object)) {
    const label = Array.isArray(value) ? "-" : `${name}:`;
    const isTree = typeof inner === "object" && inner !== null && Object.keys(inner).length > 0;
    if (!isTree) {
      const isEmpty = typeof inner === "object" || inner === "";
      console.log(`${indent}${label} ${isEmpty ? "none" : String(inner)}`);
    } else {
      console.log(`${indent}${label}`);
      printTree(inner, `${indent}  `);
    }
  }
}
