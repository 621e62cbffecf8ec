// Keeps a GPU open for the tasks. A device that was lost, also while nothing ran, or that refused a
// command is closed and opened anew at once; tasks at work on it fail at their next sync, the next task
// finds a working one. Where none can be had, it is tried again now and then.

import type { GpuError } from "../errors.ts";

/** What is kept: a device, and whatever lives on it. */
export interface Kept {
  gpu: {
    /** Resolves when the device was lost or refused a command. */
    readonly failure: Promise<GpuError>;
    readonly failed: boolean;
    /** Asks the device for a sign of life. @throws {GpuError} when it has failed. */
    probe(): Promise<void>;
  };
  /** Gives up everything on a failed device. */
  close(): void;
}

export class GpuKeeper<T extends Kept> {
  #current: Promise<T> | null = null;
  #usedMs = performance.now();
  #again: ReturnType<typeof setTimeout> | undefined;

  /**
   * `open` opens a device; `tell` is told why there is none, and null once there is one. After `idleMs`
   * without use a device is asked for a sign of life before it is handed out, and every `retryMs` another
   * is tried where none could be opened.
   */
  constructor(
    private open: () => Promise<T>,
    private tell: (problem: string | null) => void,
    private times: { idleMs: number; retryMs: number } = { idleMs: 10_000, retryMs: 30_000 },
  ) {}

  /** A working device. @throws {GpuError} when none can be opened. */
  async get(): Promise<T> {
    const current = this.#current;
    const kept = await current?.catch(() => null);
    if (kept && await this.#works(kept)) return kept;
    if (this.#current === current) this.#current = null;
    this.#current ??= this.#opened();
    return await this.#current;
  }

  /** The device that is open, if there is one; none is opened for it. */
  async opened(): Promise<T | null> {
    const kept = await this.#current?.catch(() => null);
    return kept && !kept.gpu.failed ? kept : null;
  }

  async #works({ gpu }: T): Promise<boolean> {
    const idleMs = performance.now() - this.#usedMs;
    this.#usedMs = performance.now();
    // A driver that was reset tells nobody before the next command.
    if (idleMs > this.times.idleMs && !gpu.failed) await gpu.probe().catch(() => {});
    return !gpu.failed;
  }

  async #opened(): Promise<T> {
    try {
      const kept = await this.open();
      clearTimeout(this.#again);
      this.#usedMs = performance.now();
      kept.gpu.failure.then((error) => this.#replace(kept, error));
      this.tell(null);
      return kept;
    } catch (error) {
      this.tell((error as Error).message);
      clearTimeout(this.#again);
      this.#again = setTimeout(() => this.get().catch(() => {}), this.times.retryMs);
      throw error;
    }
  }

  #replace(failed: T, error: GpuError): void {
    failed.close();
    this.tell(error.message);
    this.get().catch(() => {});
  }
}
