// Samples of different lengths on one token axis (T), without padding: segment s lies at
// [segmentStarts[s], segmentStarts[s+1]), positions count from 0 in each, and attention stays inside a
// segment. Logits at t predict tokens[t+1] of the same segment; an answer token at index i of its
// sample (i >= promptLength) is scored at i-1. Also here: which samples go together, in what order.
// Left out on purpose: splitting a sample over two batches.

/** What `pack` takes; `RenderedSample` is one. */
export interface Segment {
  /** (T) u32 token ids. */
  tokens: Uint32Array;
  /** Tokens that are given; the rest is scored. */
  promptLength: number;
}

export interface PackedBatch {
  /** (T) u32 token ids, segment after segment. */
  tokens: Uint32Array;
  /** (T) u32 index within the own segment. */
  positions: Uint32Array;
  /** (T) u32 number of the segment. */
  segmentOf: Uint32Array;
  /** (S+1) u32, the last one is T. */
  segmentStarts: Uint32Array;
  /** (T) u32 the next token of the segment; 0 at a segment's last token, which is never scored. */
  targets: Uint32Array;
  /** (N) u32, ascending: the t whose logits are scored. */
  lossPositions: Uint32Array;
  /** (N) u32: what they should predict. */
  lossTargets: Uint32Array;
  /** (N) u32: the segment each belongs to. */
  lossSegments: Uint32Array;
}

/** Packs segments in the order given. */
export function pack(segments: Segment[]): PackedBatch {
  const total = segments.reduce((sum, { tokens }) => sum + tokens.length, 0);
  const tokens = new Uint32Array(total);
  const positions = new Uint32Array(total);
  const segmentOf = new Uint32Array(total);
  const segmentStarts = new Uint32Array(segments.length + 1);
  const targets = new Uint32Array(total);
  const lossPositions: number[] = [];

  let start = 0;
  for (const [s, segment] of segments.entries()) {
    const length = segment.tokens.length;
    segmentStarts[s] = start;
    tokens.set(segment.tokens, start);
    targets.set(segment.tokens.subarray(1), start);
    segmentOf.fill(s, start, start + length);
    for (let i = 0; i < length; i++) positions[start + i] = i;
    // A sample's first token has nothing before it that could predict it.
    for (let i = Math.max(segment.promptLength, 1); i < length; i++) {
      lossPositions.push(start + i - 1);
    }
    start += length;
  }
  segmentStarts[segments.length] = total;

  return {
    tokens,
    positions,
    segmentOf,
    segmentStarts,
    targets,
    lossPositions: Uint32Array.from(lossPositions),
    lossTargets: Uint32Array.from(lossPositions, (t) => targets[t]),
    lossSegments: Uint32Array.from(lossPositions, (t) => segmentOf[t]),
  };
}

export interface BatchPlan {
  /** Tokens of a batch at most; a sample longer than that has a batch of its own. */
  maxTokens: number;
  maxSamples?: number;
  /**
   * "given" fills batches one after the other. "longest_first" sorts by length and puts each sample
   * where it first fits: fewer batches, and the first is the fullest, so memory runs out early or never.
   */
  order?: "given" | "longest_first";
}

/** Groups samples, given by their lengths in tokens, into batches of indices into `lengths`. */
export function planBatches(
  lengths: ArrayLike<number>,
  { maxTokens, maxSamples = Infinity, order = "given" }: BatchPlan,
): number[][] {
  const indices = Array.from(lengths, (_, index) => index);
  if (order === "longest_first") indices.sort((a, b) => lengths[b] - lengths[a] || a - b);
  const batches: { indices: number[]; tokens: number }[] = [];
  for (const index of indices) {
    const candidates = order === "given" ? batches.slice(-1) : batches;
    const batch = candidates.find((batch) =>
      batch.tokens + lengths[index] <= maxTokens && batch.indices.length < maxSamples
    );
    if (batch) {
      batch.indices.push(index);
      batch.tokens += lengths[index];
    } else batches.push({ indices: [index], tokens: lengths[index] });
  }
  return batches.map(({ indices }) => indices);
}

/**
 * The order of `count` samples in an epoch: a Fisher-Yates shuffle, the same for the same seed and
 * epoch on every machine.
 */
export function shuffledOrder(count: number, seed: number, epoch = 0): Uint32Array {
  const order = Uint32Array.from({ length: count }, (_, index) => index);
  const random = randomStream(seed, epoch);
  for (let i = count - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

/**
 * Numbers in [0, 1) with 32 bits each: xoshiro128** (Blackman and Vigna, 2018), its state filled by
 * SplitMix32 (MurmurHash3's finaliser over a Weyl sequence) from `seed` and `stream`, both u32.
 */
export function randomStream(seed: number, stream = 0): () => number {
  const fill = splitMix32((seed ^ splitMix32(stream)()) >>> 0);
  return xoshiro128(Uint32Array.from({ length: 4 }, fill));
}

/** @param state (4) u32, not all zero; it is advanced in place. Exported for its test. */
export function xoshiro128(state: Uint32Array): () => number {
  return () => {
    const product = Math.imul(state[1], 5);
    const result = Math.imul((product << 7) | (product >>> 25), 9) >>> 0;
    const shifted = state[1] << 9;
    state[2] ^= state[0];
    state[3] ^= state[1];
    state[1] ^= state[2];
    state[0] ^= state[3];
    state[2] ^= shifted;
    state[3] = (state[3] << 11) | (state[3] >>> 21);
    return result / 2 ** 32;
  };
}

function splitMix32(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x9e3779b9) | 0;
    let mixed = Math.imul(state ^ (state >>> 16), 0x85ebca6b);
    mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
    return (mixed ^ (mixed >>> 16)) >>> 0;
  };
}
