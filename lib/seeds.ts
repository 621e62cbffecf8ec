// Seeds from a seed: whatever draws random numbers asks here for its own, by what it draws them for and
// where (the step, the batch, the sample), so that no two draws share numbers: `seed + step` would make
// step 1 of seed 0 and step 0 of seed 1 the same. The mix is MurmurHash3 (x86, 32 bits; Appleby, public
// domain) of those integers, started at the seed. It is one to one in each of them while the others stay,
// so that two seeds, or two steps of one seed, never meet.

/** What random numbers are drawn for. The numbers are part of what makes a run repeatable: they stay. */
const purposes = {
  /** A phase's own seed, by its index. */
  phase: 1,
  /** The order of samples. */
  shuffle: 2,
  /** GRPO's completions, by optimizer step. */
  rollout: 3,
  /** A pass's dropout, by step and pass. */
  dropout: 4,
  /** A projection's dropout mask in a pass, by layer and projection. */
  dropoutMask: 5,
  /** A teacher's votes, by teacher, round and attempt. */
  vote: 6,
  /** What is answered together, by the index of its first prompt. */
  batch: 7,
  /** The samples whose gradients give the importance, by system. */
  examples: 8,
} as const;

export type SeedPurpose = keyof typeof purposes;

/** The seed, a u32, of the draws for `purpose` at `place` under `seed`; all of them are taken as u32. */
export function deriveSeed(seed: number, purpose: SeedPurpose, ...place: number[]): number {
  return murmurHash3(seed, [purposes[purpose], ...place]);
}

/** MurmurHash3_x86_32 of 32-bit words, little-endian. Exported for its test. */
export function murmurHash3(seed: number, words: readonly number[]): number {
  let hash = seed | 0;
  for (const word of words) {
    hash ^= Math.imul(rotate(Math.imul(word, 0xcc9e2d51), 15), 0x1b873593);
    hash = (Math.imul(rotate(hash, 13), 5) + 0xe6546b64) | 0;
  }
  hash ^= 4 * words.length;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

function rotate(value: number, bits: number): number {
  return (value << bits) | (value >>> (32 - bits));
}
