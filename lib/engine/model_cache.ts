// Bases on the GPU, kept for the next task. The least recently used go first when a new one needs
// room; one in use is never taken away.

import { format } from "@std/fmt/bytes";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import { GpuError } from "../errors.ts";
import { type Decoder, destroyDecoder, loadDecoder, tuneDecoder } from "../model/decoder.ts";
import { openModel } from "../model/open.ts";
import type { ModelSource } from "../model/source.ts";
import type { Turns } from "./turns.ts";

export interface LoadedModel {
  source: ModelSource;
  decoder: Decoder;
}

interface Entry {
  path: string;
  model: Promise<LoadedModel>;
  users: number;
  lastUsed: number;
  sizeBytes: number;
}

export class ModelCache {
  #entries = new Map<string, Entry>();
  #clock = 0;

  constructor(private gpu: Gpu, private budgetBytes: number) {}

  /**
   * Runs `work` with the model of a path, loading it first where needed.
   * @throws {InvalidFile} from the files. @throws {GpuError} when it passes the memory budget.
   */
  async with<T>(
    path: string,
    work: (model: LoadedModel) => Promise<T>,
    { turns, onProgress }: {
      turns: Turns;
      onProgress?: (done: number, total: number) => void;
    },
  ): Promise<T> {
    const entry = this.#claim(path) ??
      await turns.take(async () => this.#claim(path) ?? await this.#load(path, onProgress));
    try {
      return await work(await entry.model);
    } finally {
      entry.users--;
    }
  }

  /** Whether a model is on the GPU, or about to be. */
  holds(path: string): boolean {
    return this.#entries.has(path);
  }

  /** A loaded model, counted as in use; another task may have loaded it meanwhile. */
  #claim(path: string): Entry | undefined {
    const entry = this.#entries.get(path);
    if (entry) {
      entry.users++;
      entry.lastUsed = ++this.#clock;
    }
    return entry;
  }

  async #load(
    path: string,
    onProgress?: (done: number, total: number) => void,
  ): Promise<Entry> {
    const source = await openModel(path);
    let sizeBytes = 0;
    for (const tensor of source.tensors.values()) sizeBytes += tensor.sizeBytes;
    await this.#makeRoom(path, sizeBytes);
    const model = loadDecoder(this.gpu, source, onProgress)
      .then(async (decoder) => {
        await tuneDecoder(this.gpu, decoder);
        return { source, decoder };
      });
    const entry: Entry = { path, model, users: 1, lastUsed: ++this.#clock, sizeBytes };
    this.#entries.set(path, entry);
    try {
      await model;
    } catch (error) {
      this.#entries.delete(path);
      source.close();
      throw error;
    }
    return entry;
  }

  async #makeRoom(path: string, sizeBytes: number): Promise<void> {
    if (sizeBytes > this.budgetBytes) {
      const [wanted, there] = [sizeBytes, this.budgetBytes].map((bytes) =>
        format(bytes, { binary: true })
      );
      throw new GpuError(
        `Cannot load ${path}: its weights take ${wanted}, ${there} are there. Use a smaller or a ` +
          "quantised model.",
        "model",
        "out_of_memory",
      );
    }
    const total = () =>
      [...this.#entries.values()].reduce((sum, e) => sum + e.sizeBytes, sizeBytes);
    const idle = [...this.#entries.values()].filter(({ users }) => users === 0)
      .sort((a, b) => a.lastUsed - b.lastUsed);
    for (const entry of idle) {
      if (total() <= this.budgetBytes) return;
      this.#entries.delete(entry.path);
      const { source, decoder } = await entry.model;
      source.close();
      await destroyDecoder(this.gpu, decoder);
      this.gpu.pool.trim();
    }
  }
}
