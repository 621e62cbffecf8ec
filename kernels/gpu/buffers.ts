// Allocates GPU buffers and keeps released ones for the next request of their size class.
// A dropped GPUBuffer is freed only by garbage collection, so everything is destroyed by hand.

import { GpuError } from "../../lib/errors.ts";
import type { AdapterFacts } from "./device.ts";
import type { Storage, Texture } from "./tensor.ts";

const usage = () => GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;

/** Sizes are rounded up to an eighth of their power of two, so that near sizes share buffers. */
export function sizeClass(sizeBytes: number): number {
  if (sizeBytes <= 2048) return Math.max(256, Math.ceil(sizeBytes / 256) * 256);
  const step = 2 ** (Math.floor(Math.log2(sizeBytes)) - 3);
  return Math.ceil(sizeBytes / step) * step;
}

export class BufferPool {
  #nextId = 1;
  #idle = new Map<number, Storage[]>();
  #idleBytes = 0;
  #usedBytes = 0;
  #peakBytes = 0;

  constructor(
    private device: GPUDevice,
    private facts: AdapterFacts,
    private onDestroy: (id: number) => void,
  ) {}

  /** Bytes in use, kept for reuse, and the highest total so far. */
  get memory(): { usedBytes: number; idleBytes: number; peakBytes: number } {
    return { usedBytes: this.#usedBytes, idleBytes: this.#idleBytes, peakBytes: this.#peakBytes };
  }

  /** A number for anything the bind-group cache must tell apart. */
  nextId(): number {
    return this.#nextId++;
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
    const idle = this.#idle.get(size)?.pop();
    this.#usedBytes += size;
    if (idle) {
      this.#idleBytes -= size;
      return idle;
    }
    this.#peakBytes = Math.max(this.#peakBytes, this.#usedBytes + this.#idleBytes);
    const buffer = this.device.createBuffer({ label, size, usage: usage() });
    return { id: this.nextId(), buffer, sizeBytes: size };
  }

  /** Gives a buffer back for reuse. */
  release(storage: Storage): void {
    const list = this.#idle.get(storage.sizeBytes) ?? [];
    list.push(storage);
    this.#idle.set(storage.sizeBytes, list);
    this.#usedBytes -= storage.sizeBytes;
    this.#idleBytes += storage.sizeBytes;
  }

  /** Destroys a buffer instead of keeping it. The GPU must be done with it. */
  destroy(storage: Storage): void {
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

  /** Destroys all kept buffers. The GPU must be done with them. */
  trim(): void {
    for (const list of this.#idle.values()) {
      for (const storage of list) {
        this.onDestroy(storage.id);
        storage.buffer.destroy();
      }
    }
    this.#idle.clear();
    this.#idleBytes = 0;
  }
}
