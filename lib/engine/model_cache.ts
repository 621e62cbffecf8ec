// Bases on the GPU, kept for the next task. When a new one needs room, the least recently used go first;
// one in use is never taken away. What does not fit beside it waits a while for it, as for another chat
// to end, and then is refused: a training may use it for hours. A model whose files have changed on disk
// is loaded anew; the old one goes as soon as nobody uses it.
// Loading and freeing happen in turns on the GPU, so there is one of either at a time.

import { format } from "@std/fmt/bytes";
import { basename } from "node:path";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import { GpuError, InvalidFile } from "../errors.ts";
import { type Decoder, destroyDecoder, loadDecoder, tuneDecoder } from "../model/decoder.ts";
import { modelVersion } from "../model/model_files.ts";
import { openWeights } from "../model/open.ts";
import type { ModelWeights } from "../model/source.ts";
import type { Turns } from "./turns.ts";

export interface LoadedModel {
  source: ModelWeights;
  decoder: Decoder;
}

/** How models come onto the GPU and leave it. */
export interface ModelLoader {
  /** Changes when the model's files do. @throws {InvalidFile} when they are gone. */
  version(path: string): Promise<string>;
  open(path: string): Promise<ModelWeights>;
  load(
    source: ModelWeights,
    onProgress?: (done: number, total: number) => void,
  ): Promise<Decoder>;
  free(decoder: Decoder): Promise<void>;
}

/** What `with` needs of the task that asks. */
export interface ModelUse {
  turns: Turns;
  /** @throws {Cancelled} when the task need not wait any longer. */
  checkCancelled?(): void;
  onProgress?(done: number, total: number): void;
}

/** How long a model waits for the memory that models in use take. */
const patienceMs = 30_000;

interface Entry {
  path: string;
  version: string;
  model: Promise<LoadedModel>;
  users: number;
  lastUsed: number;
  sizeBytes: number;
  /** The files on disk are others by now. */
  replaced: boolean;
}

export class ModelCache {
  #entries = new Set<Entry>();
  #clock = 0;
  #closed = false;
  /** Resolved and made anew when a model is no longer in use. */
  #released = Promise.withResolvers<void>();

  constructor(
    private loader: ModelLoader,
    private budgetBytes: number,
    private waitMs = patienceMs,
  ) {}

  /**
   * Runs `work` with the model of a path as its files are now, loading it first where needed.
   * @throws {InvalidFile} from the files. @throws {GpuError} when it passes the memory budget: alone
   * (code "out_of_memory"), or beside models that stay in use (code "memory_in_use").
   */
  async with<T>(
    path: string,
    work: (model: LoadedModel) => Promise<T>,
    use: ModelUse,
  ): Promise<T> {
    const entry = this.#claim(path, await this.loader.version(path)) ??
      await this.#obtain(path, use);
    try {
      return await work(await entry.model);
    } finally {
      await this.#release(entry, use.turns);
    }
  }

  /** Whether a model is on the GPU, or about to be. */
  holds(path: string): boolean {
    return [...this.#entries].some((entry) => entry.path === path && !entry.replaced);
  }

  /** For when the device is gone: closes the files of idle models now, the others' once released. */
  close(): void {
    this.#closed = true;
    for (const entry of this.#idle()) this.#closeFiles(entry);
  }

  /** Loads a model in a turn, after those in use were released where it does not fit beside them. */
  async #obtain(path: string, { turns, checkCancelled, onProgress }: ModelUse): Promise<Entry> {
    const deadlineMs = performance.now() + this.waitMs;
    for (;;) {
      const released = this.#released.promise;
      try {
        return await turns.take(async () => {
          // Another task may have loaded it meanwhile, or the files may have changed.
          const version = await this.loader.version(path);
          return this.#claim(path, version) ?? await this.#load(path, version, onProgress);
        });
      } catch (error) {
        const isTaken = error instanceof GpuError && error.code === "memory_in_use";
        if (!isTaken || !(await happens(released, deadlineMs, checkCancelled))) throw error;
      }
    }
  }

  /** A model that is there, counted as in use from now on. */
  #claim(path: string, version: string): Entry | undefined {
    const entry = [...this.#entries].find((one) => one.path === path && one.version === version);
    if (entry) {
      entry.users++;
      entry.lastUsed = ++this.#clock;
      entry.replaced = false;
    }
    return entry;
  }

  async #release(entry: Entry, turns: Turns): Promise<void> {
    if (--entry.users > 0) return;
    this.#released.resolve();
    this.#released = Promise.withResolvers();
    if (this.#closed) return this.#closeFiles(entry);
    if (!entry.replaced) return;
    // It may be claimed or freed while this waits for its turn. Freeing fails only with the device, which
    // whoever uses it next is told; the work is done.
    await turns.take(async () => {
      if (entry.users === 0 && entry.replaced) await this.#free(entry);
    }).catch(() => {});
  }

  async #load(
    path: string,
    version: string,
    onProgress?: (done: number, total: number) => void,
  ): Promise<Entry> {
    for (const entry of this.#entries) if (entry.path === path) entry.replaced = true;
    const source = await this.loader.open(path);
    let entry: Entry | undefined;
    try {
      let sizeBytes = 0;
      for (const tensor of source.tensors.values()) sizeBytes += tensor.sizeBytes;
      await this.#makeRoom(path, sizeBytes);
      const lastUsed = ++this.#clock;
      const model = this.#read(path, version, source, onProgress);
      entry = { path, version, model, users: 1, lastUsed, sizeBytes, replaced: false };
      this.#entries.add(entry);
      await model;
      return entry;
    } catch (error) {
      if (entry) this.#entries.delete(entry);
      source.close();
      throw error;
    }
  }

  async #read(
    path: string,
    version: string,
    source: ModelWeights,
    onProgress?: (done: number, total: number) => void,
  ): Promise<LoadedModel> {
    const decoder = await this.loader.load(source, onProgress);
    if (await this.loader.version(path) === version) return { source, decoder };
    await this.loader.free(decoder);
    throw new InvalidFile(
      `Cannot use the model ${basename(path)}: its files changed while they were read. Try again ` +
        "once they are all in place.",
      "model",
    );
  }

  /** Frees idle models until `sizeBytes` more fit; those whose files were replaced go in any case. */
  async #makeRoom(path: string, sizeBytes: number): Promise<void> {
    this.#requireRoom(path, sizeBytes);
    for (;;) {
      // Looked at anew after each: another task may have claimed one while the last was freed.
      const idle = this.#idle();
      const isFull = total(this.#entries) + sizeBytes > this.budgetBytes;
      const next = idle.find(({ replaced }) => replaced) ?? (isFull ? idle[0] : undefined);
      if (!next) break;
      await this.#free(next);
    }
    this.#requireRoom(path, sizeBytes);
  }

  #requireRoom(path: string, sizeBytes: number): void {
    const used = [...this.#entries].filter(({ users }) => users > 0);
    if (total(used) + sizeBytes <= this.budgetBytes) return;
    const [wanted, there, taken] = [sizeBytes, this.budgetBytes, total(used)].map((bytes) =>
      format(bytes, { binary: true })
    );
    const name = basename(path);
    if (sizeBytes > this.budgetBytes) {
      throw new GpuError(
        `Cannot load ${name}: its weights take ${wanted}, ${there} are there. Use a smaller or a ` +
          "quantised model.",
        "model",
        "out_of_memory",
      );
    }
    const names = [...new Set(used.map((entry) => basename(entry.path)))].join(", ");
    throw new GpuError(
      `Cannot load ${name} now: its weights take ${wanted}, and of ${there} the models in use (${names}) ` +
        `take ${taken}. Try again when the work on them has ended, or cancel it.`,
      "model",
      "memory_in_use",
    );
  }

  /** Models that nobody uses, the least recently used first. */
  #idle(): Entry[] {
    return [...this.#entries].filter(({ users }) => users === 0)
      .sort((a, b) => a.lastUsed - b.lastUsed);
  }

  /** Takes an idle model off the GPU. From the first line on nobody can claim it. */
  async #free(entry: Entry): Promise<void> {
    this.#entries.delete(entry);
    const { source, decoder } = await entry.model;
    source.close();
    await this.loader.free(decoder);
  }

  #closeFiles(entry: Entry): void {
    this.#entries.delete(entry);
    entry.model.then(({ source }) => source.close(), () => {});
  }
}

function total(entries: Iterable<Entry>): number {
  let sum = 0;
  for (const { sizeBytes } of entries) sum += sizeBytes;
  return sum;
}

/** Waits for `event`; false when the deadline comes first. `check` may throw meanwhile. */
async function happens(
  event: Promise<void>,
  deadlineMs: number,
  check: () => void = () => {},
): Promise<boolean> {
  let has = false;
  event.then(() => has = true);
  while (!has && performance.now() < deadlineMs) {
    check();
    await Promise.race([event, new Promise((resolve) => setTimeout(resolve, 50))]);
  }
  return has;
}

/** Loads models onto `gpu`, with the kernels that suit their sizes chosen. */
export function gpuModelLoader(gpu: Gpu): ModelLoader {
  return {
    version: modelVersion,
    open: openWeights,
    async load(source, onProgress) {
      const decoder = await loadDecoder(gpu, source, onProgress);
      try {
        await tuneDecoder(gpu, decoder);
        // Now, because the files may be overwritten while the model is in use.
        source.digest();
      } catch (error) {
        await destroyDecoder(gpu, decoder);
        throw error;
      }
      return decoder;
    },
    async free(decoder) {
      await destroyDecoder(gpu, decoder);
      gpu.pool.trim();
    },
  };
}
