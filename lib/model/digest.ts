// A short name for a base's weights, so that an adapter is not put on another base than its own. Hashing
// gigabytes would cost minutes, so the hash is over what decides the computation and samples of the bytes:
//   SHA-256 of architecture, heads, head size, norm and RoPE constants; then for each tensor, by name: its
//   name, shape, stored type and size, and its first, middle and last KiB as stored in the file.
// A retrained or requantised model differs in nearly every sample. A change that touches none of them is
// not noticed. A GGUF conversion of a Hugging Face folder has another digest than the folder.

import { createHash } from "node:crypto";
import type { ModelConfig } from "./config.ts";

/** A tensor as it lies in its file. */
export interface StoredBytes {
  /** The file's name of the type, e.g. "BF16" or "Q4_K". */
  type: string;
  sizeBytes: number;
  read(offset: number, length: number): Uint8Array<ArrayBuffer>;
}

const sampleBytes = 1024;

/** The digest, "sha256-samples:" and 64 hexadecimal digits. @throws {InvalidFile} when a read fails. */
export function baseDigest(
  config: ModelConfig,
  tensors: ReadonlyMap<string, { shape: number[]; stored: StoredBytes }>,
): string {
  const hash = createHash("sha256");
  // Each entry is a line of JSON of its own, so two different models never give the same text. Further
  // fields of the config follow from the tensors, or change nothing that is trained.
  const { architecture, heads, kvHeads, headSize, rmsNormEps, ropeTheta, ropeScaling } = config;
  const scaling = ropeScaling && Object.entries(ropeScaling).sort();
  const line = (...values: unknown[]) => hash.update(`${JSON.stringify(values)}\n`);
  line(architecture, heads, kvHeads, headSize, rmsNormEps, ropeTheta, scaling);
  for (const [name, { shape, stored }] of [...tensors].sort(([a], [b]) => a < b ? -1 : 1)) {
    line(name, shape, stored.type, stored.sizeBytes);
    const length = Math.min(sampleBytes, stored.sizeBytes);
    const rest = stored.sizeBytes - length;
    for (const offset of new Set([0, Math.floor(rest / 2), rest])) {
      hash.update(stored.read(offset, length));
    }
  }
  return `sha256-samples:${hash.digest("hex")}`;
}
