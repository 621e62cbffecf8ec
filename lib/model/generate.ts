// Batched generation with a KV cache, sampling on the GPU. A prompt runs once, packed with others, and
// its keys and values are copied to every completion of it. Tokens are read back every few steps only,
// because a readback costs 11 ms or more on any adapter. Rows that are done ride along until the last
// one is: taking them out would copy the cache. Left out: speculative decoding, paged caches.

import {
  attention,
  createAttentionWorkspace,
  releaseAttentionWorkspace,
} from "../../kernels/attention.ts";
import {
  advance,
  appendKv,
  attentionDecode,
  createKvCache,
  type KvCache,
  releaseKvCache,
  writeKv,
} from "../../kernels/attention_decode.ts";
import { generationChecks } from "../../kernels/check/ops.ts";
import { requireOps } from "../../kernels/check/self_check.ts";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import type { Tensor } from "../../kernels/gpu/tensor.ts";
import { gatherRows, scatterRows } from "../../kernels/rows.ts";
import { createSampler, releaseSampler, sample, type Sampler } from "../../kernels/sample.ts";
import { pack, planBatches } from "../data/pack.ts";
import { NumericError } from "../errors.ts";
import type { Attend, BlockContext } from "./block.ts";
import { type CacheRoom, cacheRoomOf, requireRow, rowSize } from "./cache_room.ts";
import { reserveRope } from "./decoder.ts";
import { logitsOf } from "./head.ts";
import { forward, type Policy, releaseBatch, uploadBatch } from "./pass.ts";

/** Steps between two readbacks. */
const stepsPerRead = 16;
/** Prompt tokens of one packed pass. */
const promptTokensPerPass = 4096;

export interface GenerateRequest {
  prompts: Uint32Array[];
  completionsPerPrompt: number;
  maxNewTokens: number;
  /** 0 is greedy. */
  temperature: number;
  /** 0 turns it off. */
  topK: number;
  /** 1 turns it off. */
  topP: number;
  /** 0 turns it off. */
  minP: number;
  seed: number;
  eosTokens: number[];
}

export interface GenerateHooks {
  /** @throws {Cancelled} */
  checkCancelled?(): void;
  /** Runs a stretch of steps alone on the GPU; left out when the caller already has its turn. */
  turn?<T>(work: () => Promise<T>): Promise<T>;
  /** New tokens of a row; false ends that row. */
  onTokens?(row: number, tokens: Uint32Array): boolean;
  /** Steps between two readbacks: fewer stream smoother, more run faster. */
  stepsPerRead?: number;
  /** Where keys and values find room; left out, the GPU's own. */
  room?: CacheRoom;
}

export interface Completion {
  /** Including the end-of-turn token, when it came. */
  tokens: Uint32Array;
  /** Ended by an end-of-turn token, not by maxNewTokens. */
  finished: boolean;
}

/** One row being decoded: its number over the whole request, and its prompt. */
interface Row {
  number: number;
  prompt: number;
}

/**
 * Completions of every prompt, prompt after prompt. The same request gives the same tokens, however
 * its rows are batched.
 * @throws {GpuError} past the model's positions, or when not one completion fits the memory. @throws {NumericError} when logits are NaN.
 */
export async function generate(
  gpu: Gpu,
  policy: Policy,
  request: GenerateRequest,
  hooks: GenerateHooks = {},
): Promise<Completion[]> {
  const rows: Row[] = request.prompts.flatMap((_, prompt) =>
    Array.from({ length: request.completionsPerPrompt }, (_, i) => ({
      number: prompt * request.completionsPerPrompt + i,
      prompt,
    }))
  );
  const longest = request.prompts.reduce((most, { length }) => Math.max(most, length), 0);
  const capacity = longest + request.maxNewTokens;
  reserveRope(gpu, policy.decoder, capacity);
  const { config } = policy.decoder;
  const size = rowSize(gpu, config, capacity);
  requireRow(gpu, config, size, longest);
  const turn = hooks.turn ?? ((work) => work());
  await turn(() => requireOps(gpu, generationChecks(config.heads / config.kvHeads)));
  const room = hooks.room ?? cacheRoomOf(gpu);
  const check = () => hooks.checkCancelled?.();
  const completions: Completion[] = [];
  while (completions.length < rows.length) {
    const left = rows.slice(completions.length);
    const taken = hooks.turn
      ? await room.take(size, left.length, check)
      : room.takeAlone(size, left.length);
    try {
      const some = left.slice(0, taken);
      completions.push(...await decodeRows(gpu, policy, request, some, capacity, hooks));
    } finally {
      room.release(size, taken);
    }
  }
  return completions;
}

/** What rows hold from their prompt to their last token. */
interface HeldRows {
  cache: KvCache;
  sampler: Sampler;
}

function beginRows(
  gpu: Gpu,
  { config }: Policy["decoder"],
  { maxNewTokens, eosTokens }: GenerateRequest,
  rows: Row[],
  capacity: number,
): HeldRows {
  const { layers, heads: H, kvHeads: KVH, headSize: D } = config;
  const sequences = rows.map(({ number }) => number);
  return {
    cache: createKvCache(gpu, { layers, B: rows.length, H, KVH, D, capacity }),
    sampler: createSampler(gpu, { sequences, maxNewTokens, eosTokens }),
  };
}

function releaseRows(gpu: Gpu, { cache, sampler }: HeldRows): void {
  releaseKvCache(gpu, cache);
  releaseSampler(gpu, sampler);
}

async function decodeRows(
  gpu: Gpu,
  policy: Policy,
  request: GenerateRequest,
  rows: Row[],
  capacity: number,
  hooks: GenerateHooks,
): Promise<Completion[]> {
  const { decoder } = policy;
  const turn = hooks.turn ?? ((work) => work());
  const reads = hooks.stepsPerRead ?? stepsPerRead;
  const told = rows.map(() => 0);
  const settings = { ...request, vocabulary: decoder.config.vocabSize };
  // Nothing is taken before the turn: who waits for it holds no memory.
  const { cache, sampler } = await turn(async () => {
    const begun = gpu.scope(() => {
      const made = beginRows(gpu, decoder, request, rows, capacity);
      const last = prefill(gpu, policy, request.prompts, rows, made.cache);
      const logits = logitsOf(gpu, decoder, last);
      sample(gpu, { logits, sampler: made.sampler }, settings);
      gpu.release(last, logits);
      return made;
    });
    await gpu.sync().catch((error) => {
      releaseRows(gpu, begun);
      throw error;
    });
    return begun;
  });
  try {
    const longest = rows.reduce(
      (most, { prompt }) => Math.max(most, request.prompts[prompt].length),
      0,
    );
    for (let step = 1;;) {
      hooks.checkCancelled?.();
      const isDone = await turn(async () => {
        const end = Math.min(request.maxNewTokens, step + reads);
        for (; step < end; step++) {
          gpu.scope(() => {
            const x = decodeStep(gpu, policy, { cache, sampler, maxLength: longest + step });
            const logits = logitsOf(gpu, decoder, x);
            sample(gpu, { logits, sampler }, settings);
            advance(gpu, { cache, done: sampler.done });
            gpu.release(x, logits);
            gpu.flush();
          });
        }
        return await readBack(gpu, { sampler, rows, told, hooks });
      });
      if (isDone || step >= request.maxNewTokens) break;
    }
    return await collect(gpu, sampler, request);
  } finally {
    releaseRows(gpu, { cache, sampler });
  }
}

/** Fills the cache with every row's prompt; answers the last hidden states (B, C). */
function prefill(
  gpu: Gpu,
  { decoder, adapter }: Policy,
  prompts: Uint32Array[],
  rows: Row[],
  cache: KvCache,
): Tensor {
  const last = gpu.tensor("generate.last", [rows.length, decoder.config.hiddenSize]);
  const used = [...new Set(rows.map(({ prompt }) => prompt))];
  const plan = planBatches(used.map((prompt) => prompts[prompt].length), {
    maxTokens: promptTokensPerPass,
  });
  for (const chosen of plan.map((indices) => indices.map((index) => used[index]))) {
    const packed = pack(
      chosen.map((prompt) => ({ tokens: prompts[prompt], promptLength: prompts[prompt].length })),
    );
    const batch = uploadBatch(gpu, decoder, { ...packed, ...noTargets });
    const segmentOf = (row: Row) => chosen.indexOf(row.prompt);
    const rowSources = gpu.upload(
      "generate.row_sources",
      Uint32Array.from(rows, (row) => segmentOf(row) < 0 ? 0xffffffff : segmentOf(row)),
    );
    const workspace = createAttentionWorkspace(gpu, batch.segments, decoder.config.heads);
    const attend: Attend = (layer, q, k, v, y) => {
      attention(gpu, { q, k, v, y, segments: batch.segments, workspace });
      writeKv(gpu, { k, v, cache, layer, segments: batch.segments, rowSources });
    };
    const { positions } = batch;
    const context: BlockContext = { gpu, decoder, adapter, dropout: null, positions };
    const x = forward(context, batch.tokens, attend);
    const here = rows.flatMap((row, index) => segmentOf(row) < 0 ? [] : [index]);
    const ends = here.map((index) => packed.segmentStarts[segmentOf(rows[index]) + 1] - 1);
    keepRows(gpu, x, ends, last, here);
    gpu.release(x, rowSources);
    releaseAttentionWorkspace(gpu, workspace);
    releaseBatch(gpu, batch);
  }
  gpu.write(cache.lengths, Uint32Array.from(rows, ({ prompt }) => prompts[prompt].length));
  return last;
}

const noTargets = { lossPositions: new Uint32Array(1), lossTargets: new Uint32Array(1) };

/** Copies rows `from` of x to rows `to` of y. */
function keepRows(gpu: Gpu, x: Tensor, from: number[], y: Tensor, to: number[]): void {
  const picked = gpu.tensor("generate.picked", [from.length, y.shape[1]]);
  const sources = gpu.upload("generate.sources", Uint32Array.from(from));
  const targets = gpu.upload("generate.targets", Uint32Array.from(to));
  gatherRows(gpu, { x, numbers: sources, y: picked });
  scatterRows(gpu, { x: picked, numbers: targets, y });
  gpu.release(picked, sources, targets);
}

/** Runs the last sampled tokens through the blocks; answers the hidden states (B, C). */
function decodeStep(
  gpu: Gpu,
  { decoder, adapter }: Policy,
  { cache, sampler, maxLength }: { cache: KvCache; sampler: Sampler; maxLength: number },
): Tensor {
  const attend: Attend = (layer, q, k, v, y) => {
    appendKv(gpu, { k, v, cache, layer });
    attentionDecode(gpu, { q, cache, layer, y }, maxLength);
  };
  const positions = cache.lengths;
  const context: BlockContext = { gpu, decoder, adapter, dropout: null, positions };
  return forward(context, sampler.next, attend);
}

/** Tells the hooks of new tokens; answers whether every row is done. */
async function readBack(
  gpu: Gpu,
  { sampler, rows, told, hooks }: {
    sampler: Sampler;
    rows: Row[];
    told: number[];
    hooks: GenerateHooks;
  },
): Promise<boolean> {
  const { done, counts, errors, outputs } = sampler;
  const words = await gpu.readWords([done, counts, errors, ...(hooks.onTokens ? [outputs] : [])]);
  const [isDone, count, error, output] = words.map((buffer) => new Uint32Array(buffer));
  const broken = rows.findIndex((_, i) => error[i] !== 0);
  if (broken >= 0) {
    throw new NumericError(
      `Cannot go on generating: the logits of sequence ${
        rows[broken].number
      } are NaN or Inf. The ` +
        "adapter or the model is damaged, or the learning rate was too high.",
    );
  }
  if (hooks.onTokens) {
    for (const [i, { number }] of rows.entries()) {
      if (isDone[i] && told[i] === count[i]) continue;
      const begin = i * sampler.maxNewTokens;
      const fresh = output.slice(begin + told[i], begin + count[i]);
      told[i] = count[i];
      if (!hooks.onTokens(number, fresh)) isDone[i] = 1;
    }
    gpu.write(done, isDone);
  }
  return isDone.every((flag) => flag !== 0);
}

async function collect(
  gpu: Gpu,
  { outputs, counts, maxNewTokens, B }: Sampler,
  { eosTokens }: GenerateRequest,
): Promise<Completion[]> {
  const [words, countWords] = await gpu.readWords([outputs, counts]);
  const all = new Uint32Array(words), count = new Uint32Array(countWords);
  return Array.from({ length: B }, (_, b) => {
    const tokens = all.slice(b * maxNewTokens, b * maxNewTokens + count[b]);
    const end = tokens[tokens.length - 1];
    return { tokens, finished: tokens.length > 0 && eosTokens.includes(end) };
  });
}
