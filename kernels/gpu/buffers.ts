// Allocates GPU buffers and keeps released ones for the next request of their size class.
// A dropped GPUBuffer is freed only by garbage collection, so everything is destroyed by hand.

import { GpuError } from "../../lib/errors.ts";
import type { AdapterFacts } from "./device.ts";
import type { Storage, Texture } from "./tensor.ts";

const usage = () => GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;

/** Sizes are rounded up to an eighth of their power of two, so that near sizes share buffers. */
function sizeClass(sizeBytes: number): number {
  if (sizeBytes <= 2048) return Math.max(256, Math.ceil(sizeBytes / 256) * 256);
  const step = 2 ** (Math.floor(Math.log2(sizeBytes)) - 3);
  return Math.ceil(sizeBytes / step) * step;
}

/** Kept buffers past this are destroyed, the longest unused first. */
const maxIdleBytes = 384 * 2 ** 20;
/** A kept buffer serves a request down to this share of its size. */
const leastFill = 0.6;

export class BufferPool {
  #nextId = 1;
  /** Kept buffers, the longest unused first. */
  #idle = new Set<Storage>();
  #idleBytes = 0;
  #usedBytes = 0;
  #peakBytes = 0;
  /** What each scope that is open, the innermost last, has acquired and still holds. */
  #scopes: Set<Storage>[] = [];

  constructor(
    private device: GPUDevice,
    private facts: AdapterFacts,
    private onDestroy: (id: number) => void,
    private beforeDestroy: () => void,
  ) {}

  /** Bytes in use, kept for reuse, and the highest total so far. */
  get memory(): { usedBytes: number; idleBytes: number; peakBytes: number } {
    return { usedBytes: this.#usedBytes, idleBytes: this.#idleBytes, peakBytes: this.#peakBytes };
  }

  /** A number for anything the bind-group cache must tell apart. */
  nextId(): number {
    return this.#nextId++;
  }

  /**
   * Runs `work`, which must not wait for anything. When it throws, the buffers it acquired and has not
   * released are released; when it answers, they are its caller's. Scopes may lie within each other.
   */
  scope<T>(work: () => T): T {
    const held = new Set<Storage>();
    this.#scopes.push(held);
    try {
      const result = work();
      this.#scopes.pop();
      for (const storage of held) this.#scopes.at(-1)?.add(storage);
      return result;
    } catch (error) {
      this.#scopes.pop();
      for (const storage of held) this.release(storage);
      throw error;
    }
  }

  /** Runs `work` outside of any scope: what it acquires outlives the commands that are recorded. */
  lasting<T>(work: () => T): T {
    const scopes = this.#scopes;
    this.#scopes = [];
    try {
      return work();
    } finally {
      this.#scopes = scopes;
    }
  }

  /** A buffer of at least `sizeBytes`; its contents are whatever the last user left. */
  acquire(label: string, sizeBytes: number): Storage {
    const size = sizeClass(sizeBytes);
    if (size > this.facts.limits.maxBufferBytes) {
      throw new GpuError(
        `Cannot allocate ${label}: ${sizeBytes} bytes asked, ` +
          `${this.facts.description} allows ${this.facts.limits.maxBufferBytes} a buffer. ` +
          "Use a smaller model, batch or length.",
      );
    }
    const kept = this.#bestKept(size);
    if (kept) {
      this.#idle.delete(kept);
      this.#idleBytes -= kept.sizeBytes;
      this.#usedBytes += kept.sizeBytes;
      this.#scopes.at(-1)?.add(kept);
      return kept;
    }
    if (this.#idleBytes + size > maxIdleBytes) this.trim(Math.max(0, maxIdleBytes - size));
    this.#usedBytes += size;
    this.#peakBytes = Math.max(this.#peakBytes, this.#usedBytes + this.#idleBytes);
    const buffer = this.device.createBuffer({ label, size, usage: usage() });
    const storage = { id: this.nextId(), buffer, sizeBytes: size };
    this.#scopes.at(-1)?.add(storage);
    return storage;
  }

  /** The smallest kept buffer that holds `size` without wasting much. */
  #bestKept(size: number): Storage | null {
    let best: Storage | null = null;
    for (const storage of this.#idle) {
      const { sizeBytes } = storage;
      if (sizeBytes === size) return storage;
      const fits = sizeBytes > size && sizeBytes * leastFill <= size;
      if (fits && (!best || sizeBytes < best.sizeBytes)) best = storage;
    }
    return best;
  }

  /** Gives a buffer back for reuse. @throws {Error} when it was given back before. */
  release(storage: Storage): void {
    if (this.#idle.has(storage)) {
      throw new Error(`Cannot release ${storage.buffer.label} again: it is in the pool already`);
    }
    for (const held of this.#scopes) held.delete(storage);
    this.#idle.add(storage);
    this.#usedBytes -= storage.sizeBytes;
    this.#idleBytes += storage.sizeBytes;
  }

  /** Destroys a buffer instead of keeping it. The GPU must be done with it. */
  destroy(storage: Storage): void {
    for (const held of this.#scopes) held.delete(storage);
    this.#usedBytes -= storage.sizeBytes;
    this.onDestroy(storage.id);
    storage.buffer.destroy();
  }

  /** Counts a texture's bytes with the buffers'. */
  addTexture(sizeBytes: number): void {
    this.#usedBytes += sizeBytes;
    this.#peakBytes = Math.max(this.#peakBytes, this.#usedBytes + this.#idleBytes);
  }

  /** Destroys a texture. The GPU must be done with it. */
  destroyTexture({ id, texture, sizeBytes }: Texture): void {
    this.#usedBytes -= sizeBytes;
    this.onDestroy(id);
    texture.destroy();
  }

  /** Destroys kept buffers, the longest unused first, until `limitBytes` of them are left. */
  trim(limitBytes = 0): void {
    if (this.#idleBytes <= limitBytes) return;
    // What is recorded may still use them; once submitted, destroying is safe.
    this.beforeDestroy();
    for (const storage of this.#idle) {
      if (this.#idleBytes <= limitBytes) break;
      this.#idle.delete(storage);
      this.#idleBytes -= storage.sizeBytes;
      this.onDestroy(storage.id);
      storage.buffer.destroy();
    }
  }
}
