// What became of the mutants of one format, and what none of them may do.

import type { Outcome } from "./guarded_reader.ts";

const freeBytes = 2 ** 26;

export interface FuzzReport {
  format: string;
  mutants: number;
  read: number;
  refused: number;
  slowestMs: number;
  /** Growth of the process over a mutant at most, its allowance not taken off. */
  mostGrownBytes: number;
  /** Mutants that did what none may, with what it was. */
  failures: string[];
}

/** What is wrong with how a mutant ended; null when nothing is. */
export function faultOf(
  { kind, error, message, grownBytes }: Outcome,
  sizeBytes: number,
): string | null {
  if (kind === "crashed" || kind === "late") return `${kind}: ${message}`;
  if (kind === "refused" && error !== "InvalidFile" && error !== "InvalidRequest") {
    return `${error}: ${message}`;
  }
  const grownTooFar = grownBytes > 2 * sizeBytes + freeBytes;
  return grownTooFar ? `${sizeBytes} bytes grew the process by ${grownBytes}` : null;
}
