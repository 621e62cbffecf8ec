// Reads mutants one after the other: what became of those of one format, and what none of them may do.

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
function faultOf(
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

/**
 * Reads mutants number `first` and following of a format.
 * @param read makes and reads one, and answers how it ended and its bytes
 */
export async function fuzz(
  format: string,
  { count, first }: { count: number; first: number },
  read: (number: number) => Promise<{ outcome: Outcome; sizeBytes: number }>,
): Promise<FuzzReport> {
  const report: FuzzReport = {
    format,
    mutants: count,
    read: 0,
    refused: 0,
    slowestMs: 0,
    mostGrownBytes: 0,
    failures: [],
  };
  for (let number = first; number < first + count; number++) {
    const { outcome, sizeBytes } = await read(number);
    if (outcome.kind === "read") report.read++;
    if (outcome.kind === "refused") report.refused++;
    report.slowestMs = Math.max(report.slowestMs, outcome.elapsedMs);
    report.mostGrownBytes = Math.max(report.mostGrownBytes, outcome.grownBytes);
    const fault = faultOf(outcome, sizeBytes);
    if (fault) report.failures.push(`${format} ${number}: ${fault}`);
  }
  return report;
}
