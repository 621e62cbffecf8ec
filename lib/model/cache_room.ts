// How many completions are decoded side by side, by the bytes of their keys and values. All generations
// on one GPU share its room: one that takes turns gets a quarter of it at most, and waits in line until
// others have released enough; one that has the GPU for itself (a rollout, whose memory the training's plan
// has counted) does not wait.

import { format } from "@std/fmt/bytes";
import { kvCacheBytes } from "../../kernels/attention_decode.ts";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import { GpuError } from "../errors.ts";
import type { ModelConfig } from "./config.ts";
import { blockActivationBytes } from "./pass.ts";

/** Rows decoded side by side; more gain little and take memory. */
const maxRows = 64;
/** WebGPU does not tell a GPU's memory; who runs a model with a large cache has one that holds this. */
const hardwareBytes = 4 * 2 ** 30;
/** A software adapter takes the machine's memory: this much of what is free, and no more than that. */
const softwareShare = 1 / 4;
const softwareBytes = 2 * 2 ** 30;

/** What a row of `tokens` positions, prompt and completion, takes while it is decoded. */
export interface RowSize {
  tokens: number;
  bytes: number;
  /** The largest piece that the adapter has to bind. */
  largest: number;
  /** Rows that the adapter binds in one piece; 0 when not even one. */
  bindable: number;
}

export function rowSize(
  gpu: Gpu,
  { vocabSize: V, layers, heads: H, kvHeads: KVH, headSize: D }: ModelConfig,
  tokens: number,
): RowSize {
  const sizes = { layers, B: 1, H, KVH, D, capacity: tokens };
  const { totalBytes, largestBytes } = kvCacheBytes(sizes);
  const logitBytes = Math.ceil(V / 4) * 16;
  const largest = Math.max(logitBytes, largestBytes);
  return {
    tokens,
    largest,
    // Logits, and the list that the sampler sorts them in.
    bytes: totalBytes + 2 * logitBytes,
    bindable: Math.floor(gpu.facts.limits.maxBindingBytes / largest),
  };
}

/**
 * Refuses what no waiting makes fit: a row that the adapter does not bind, or a prompt whose activations
 * pass the memory that a software adapter has.
 * @throws {GpuError} code "out_of_memory"
 */
export function requireRow(
  gpu: Gpu,
  config: ModelConfig,
  size: RowSize,
  promptTokens: number,
): void {
  const { software, limits } = gpu.facts;
  if (size.bindable === 0) {
    throw tooLarge(size.tokens, "a layer's keys and values", size.largest, limits.maxBindingBytes);
  }
  const bytes = blockActivationBytes(config, promptTokens) + size.bytes;
  const available = software ? Deno.systemMemoryInfo().available : Infinity;
  if (bytes > available) {
    throw tooLarge(size.tokens, "its activations, keys and values", bytes, available);
  }
}

/** Bytes that a rollout of `rows` completions of `tokens` each, their prompts included, holds at once. */
export function rolloutBytes(gpu: Gpu, config: ModelConfig, rows: number, tokens: number): number {
  const size = rowSize(gpu, config, tokens);
  return size.bytes * Math.min(rows, cacheRoomOf(gpu).rowsAlone(size));
}

export class CacheRoom {
  #usedBytes = 0;
  /** Resolved and made anew when rows are released. */
  #released = Promise.withResolvers<void>();
  #line: Promise<unknown> = Promise.resolve();

  /** `limitBytes` is told the bytes in use, which a limit by the free memory has to add. */
  constructor(private limitBytes: (usedBytes: number) => number) {}

  /** Rows that a generation with the GPU for itself has at once, at least one. */
  rowsAlone({ bytes, bindable }: RowSize): number {
    const fitting = Math.floor(this.limitBytes(this.#usedBytes) / bytes);
    return Math.max(1, Math.min(maxRows, bindable, fitting));
  }

  /** Takes room for up to `rows` rows at once; answers for how many, which the caller releases. */
  takeAlone(size: RowSize, rows: number): number {
    return this.#take(size, Math.min(rows, this.rowsAlone(size)));
  }

  /**
   * As `takeAlone`, for a generation that takes turns with others: waits in line until half of what it
   * may have is free. `check` may end the waiting by throwing.
   * @throws {GpuError} code "out_of_memory" when not one row fits
   */
  async take(size: RowSize, rows: number, check: () => void): Promise<number> {
    const turn = this.#line.then(async () => {
      for (;;) {
        check();
        const limit = this.limitBytes(this.#usedBytes);
        if (size.bytes > limit) {
          throw tooLarge(size.tokens, "its keys and values", size.bytes, limit);
        }
        const share = Math.max(1, Math.floor(limit / 4 / size.bytes));
        const wanted = Math.min(rows, maxRows, size.bindable, share);
        const free = Math.floor((limit - this.#usedBytes) / size.bytes);
        if (free >= Math.ceil(wanted / 2)) return this.#take(size, Math.min(wanted, free));
        const soon = new Promise((resolve) => setTimeout(resolve, 50));
        await Promise.race([this.#released.promise, soon]);
      }
    });
    this.#line = turn.catch(() => {});
    return await turn;
  }

  #take({ bytes }: RowSize, rows: number): number {
    this.#usedBytes += bytes * rows;
    return rows;
  }

  release({ bytes }: RowSize, rows: number): void {
    this.#usedBytes -= bytes * rows;
    this.#released.resolve();
    this.#released = Promise.withResolvers();
  }
}

function tooLarge(tokens: number, what: string, bytes: number, limitBytes: number): GpuError {
  const [wanted, there] = [bytes, limitBytes].map((count) => format(count, { binary: true }));
  return new GpuError(
    `Cannot generate a completion of up to ${tokens} tokens, its prompt included: ${what} take ` +
      `${wanted}, ${there} are there. Shorten the prompt or lower max_tokens.`,
    null,
    "out_of_memory",
  );
}

const rooms = new WeakMap<Gpu, CacheRoom>();

/** The room that all generations on a GPU share. */
export function cacheRoomOf(gpu: Gpu): CacheRoom {
  const room = rooms.get(gpu) ?? new CacheRoom((usedBytes) => {
    if (!gpu.facts.software) return hardwareBytes;
    const { available } = Deno.systemMemoryInfo();
    return Math.min(softwareBytes, (available + usedBytes) * softwareShare);
  });
  rooms.set(gpu, room);
  return room;
}
