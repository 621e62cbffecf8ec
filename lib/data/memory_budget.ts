// What reading a file may take of memory, counted before it is taken. A few bytes of a compressed or
// columnar file can stand for gigabytes, so sizes that a file states are spent here first.
// The costs are estimates of V8's, good to a factor of two; they bound, they do not measure.

/** Bytes of one record as a sample: the objects around its texts. */
export const recordBytes = 512;
const objectBytes = 64;
/** Of an object's member, its name included, and of an array's. */
const memberBytes = 32, elementBytes = 8;

export class MemoryBudget {
  #leftBytes: number;

  /** @param exceeded makes the error for a file that needs more than `limitBytes` */
  constructor(limitBytes: number, readonly exceeded: () => Error) {
    this.#leftBytes = limitBytes;
  }

  /** @throws what `exceeded` makes, when less than `bytes` is left. */
  spend(bytes: number): void {
    this.#leftBytes -= bytes;
    // NaN and negative sizes come from damaged files.
    if (!(bytes >= 0 && this.#leftBytes >= 0)) throw this.exceeded();
  }
}

/** What a value of JSON takes; each use of a text counts, for what follows works on each. */
export function memoryOf(value: unknown): number {
  if (typeof value === "string") return value.length;
  if (typeof value !== "object" || value === null) return 0;
  const isArray = Array.isArray(value);
  let bytes = objectBytes;
  for (const inner of isArray ? value : Object.values(value)) {
    bytes += (isArray ? elementBytes : memberBytes) + memoryOf(inner);
  }
  return bytes;
}
