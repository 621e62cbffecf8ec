// Picks each row's next token on the GPU, so that decoding needs no readback per token.
// Order and meaning as in Transformers: logits / temperature, then top-k (ties with the k-th are kept),
// then top-p over what is left (the smallest set of largest probabilities that sum to p or more; ties
// with the last are kept, where Transformers' sort picks among them), then min-p (probability >= min_p
// times the largest). The draw is Gumbel-max (Gumbel 1954; Maddison et al. 2014) over a counter-based
// generator keyed (seed, sequence, tokens so far, token): it can be replayed, and does not depend
// on which rows are sampled together. Cuts are found exactly, without a sort. No log-probabilities:
// the training forward gives them.

import { f32Word, type Gpu } from "./gpu/gpu.ts";
import type { Kernel } from "./gpu/pipelines.ts";
import { elementCount, type Tensor } from "./gpu/tensor.ts";
import { variantOf } from "./gpu/variants.ts";
import random from "./random.wgsl" with { type: "text" };
import code from "./sample.wgsl" with { type: "text" };

const kernel = (workgroupSize: number): Kernel => ({
  label: "sample.sample",
  code: random + code,
  entryPoint: "sample",
  constants: { workgroup_size: workgroupSize },
});
const kernels = { "8 lanes": kernel(8), "64 lanes": kernel(64), "128 lanes": kernel(128) };
/** 128 lanes need more workgroup memory than every adapter has. */
const wideStorageBytes = 20_000;

/** Lanes a row. Eight are one vector of a CPU posing as a GPU, where barriers then cost nothing. */
export function sampleVariants({ facts }: Gpu): readonly (keyof typeof kernels)[] {
  if (facts.software) return ["8 lanes", "64 lanes"];
  return facts.limits.maxWorkgroupStorageBytes < wideStorageBytes
    ? ["64 lanes", "8 lanes"]
    : ["128 lanes", "64 lanes", "8 lanes"];
}

/** Where B sequences stand; the kernel keeps it up to date, the host may read it any time. */
export interface Sampler {
  /** (B) u32, the token sampled last. */
  next: Tensor;
  /** (B) u32, not 0 once an end token came, the room is used up or the logits were no numbers. */
  done: Tensor;
  /** (B, maxNewTokens) u32, what was sampled, then padding. */
  outputs: Tensor;
  /** (B) u32, tokens in `outputs`. */
  counts: Tensor;
  /** (B) u32, 1 where all logits of a row were NaN or infinite. */
  errors: Tensor;
  /** The rows' sequence numbers, then the end tokens. */
  known: Tensor;
  /** Room for the search of top-k and top-p, from its first use on. */
  lists: Tensor;
  B: number;
  maxNewTokens: number;
  eosCount: number;
}

export interface SampleSettings {
  /** 0 takes the largest logit, of equal ones the lowest token, and ignores the cuts. */
  temperature: number;
  /** 0 turns it off. */
  topK?: number;
  /** 1 turns it off. */
  topP?: number;
  /** 0 turns it off. */
  minP?: number;
  seed: number;
  /** Columns of the logits that are tokens; the rest pad the row. */
  vocabulary?: number;
}

/** A sampler for sequences that have no token yet; `sequences` (B) number them for the generator. */
export function createSampler(
  gpu: Gpu,
  { sequences, maxNewTokens, eosTokens, padToken = 0 }: {
    sequences: ArrayLike<number>;
    maxNewTokens: number;
    eosTokens: ArrayLike<number>;
    padToken?: number;
  },
): Sampler {
  const B = sequences.length;
  return {
    next: gpu.upload("sampler.next", new Uint32Array(B).fill(padToken)),
    done: gpu.zeros("sampler.done", [B], "u32"),
    outputs: gpu.upload(
      "sampler.outputs",
      new Uint32Array(B * maxNewTokens).fill(padToken),
      [B, maxNewTokens],
    ),
    counts: gpu.zeros("sampler.counts", [B], "u32"),
    errors: gpu.zeros("sampler.errors", [B], "u32"),
    known: gpu.upload(
      "sampler.known",
      Uint32Array.from([...Array.from(sequences), ...Array.from(eosTokens)]),
    ),
    lists: gpu.tensor("sampler.lists", [4], "u32"),
    B,
    maxNewTokens,
    eosCount: eosTokens.length,
  };
}

/** Gives the sampler's tensors back. */
export function releaseSampler(gpu: Gpu, sampler: Sampler): void {
  const { next, done, outputs, counts, errors, known, lists } = sampler;
  gpu.release(next, done, outputs, counts, errors, known, lists);
}

/**
 * Samples one token for each row that is not done, from logits (B, V) f32, V a multiple of 4.
 * @throws {RangeError} for settings or shapes that cannot be.
 */
export function sample(
  gpu: Gpu,
  { logits, sampler }: { logits: Tensor; sampler: Sampler },
  settings: SampleSettings,
): void {
  const { B, maxNewTokens, eosCount } = sampler;
  const V = elementCount(logits.shape) / B;
  const { temperature, topK = 0, topP = 1, minP = 0, seed, vocabulary = V } = settings;
  if (V % 4 !== 0 || vocabulary < 1 || vocabulary > V) {
    throw new RangeError(
      `Cannot sample ${vocabulary} tokens from logits (${logits.shape}): wanted (${B}, V), V a ` +
        "multiple of 4 that holds them all",
    );
  }
  if (!(temperature >= 0) || !(topK >= 0) || !(topP > 0) || !(minP >= 0 && minP <= 1)) {
    throw new RangeError(
      `Cannot sample with temperature ${temperature}, top_k ${topK}, top_p ${topP}, min_p ${minP}: ` +
        "wanted 0 or more, 0 or more, over 0, 0 to 1",
    );
  }
  const cuts = topK > 0 && topK < vocabulary || topP < 1;
  if (cuts && sampler.lists.sizeBytes < B * V * 4) {
    const outgrown = sampler.lists;
    sampler.lists = gpu.lasting(() => gpu.tensor("sampler.lists", [B, V], "u32"));
    gpu.release(outgrown);
  }
  const { next, done, outputs, counts, errors, known, lists } = sampler;
  gpu.run(
    kernels[variantOf(gpu, "sample", sampleVariants(gpu))],
    [logits, known, outputs, counts, next, done, errors, lists],
    gpu.grid(B),
    [
      B,
      V,
      vocabulary,
      maxNewTokens,
      f32Word(temperature),
      topK < vocabulary ? topK : 0,
      f32Word(topP),
      f32Word(minP > 0 ? Math.log(minP) : -3.4e38),
      seed >>> 0,
      eosCount,
    ],
  );
}
