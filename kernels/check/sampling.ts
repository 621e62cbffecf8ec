// The sampler: which token it draws follows from seed and logits, so it is compared to the bit. With
// these logits no draw and no cut is so close that an adapter's rounding could turn it
// (tests/kernels/check/sampling_test.ts).

import { type Cuts, drawReference } from "../reference/sample.ts";
import { createSampler, sample, sampleVariants } from "../sample.ts";
import type { OpCheck } from "./trial.ts";

const settings: readonly Cuts[] = [
  { temperature: 0 },
  { temperature: 1 },
  { temperature: 1.3, topK: 40, topP: 0.7, minP: 0.05 },
];

export const sampleCheck: OpCheck = {
  op: "sample",
  variants: sampleVariants,
  record(trial) {
    const { gpu } = trial;
    const [vocabulary, V, seed, padToken] = [1001, 1004, 3, 7];
    // Padding columns are larger than any logit, and must not be seen.
    const values = trial.normal(V, 2).fill(1e30, vocabulary);
    const logits = values.subarray(0, vocabulary);
    const sequences = [4, 9, 2], B = sequences.length, steps = 4;
    const packed = new Float32Array(B * V);
    for (let b = 0; b < B; b++) packed.set(values, b * V);
    const tensor = trial.input(packed, [B, V]);
    for (const cuts of settings) {
      const sampler = createSampler(gpu, {
        sequences,
        maxNewTokens: steps,
        eosTokens: [],
        padToken,
      });
      for (let taken = 0; taken < steps; taken++) {
        sample(gpu, { logits: tensor, sampler }, { ...cuts, seed, vocabulary });
      }
      const { next, done, outputs, counts, errors, known, lists } = sampler;
      for (const held of [next, done, outputs, counts, errors, known, lists]) trial.hold(held);
      const largest = logits.indexOf(Math.max(...logits));
      trial.expectExactly(
        outputs,
        () =>
          sequences.flatMap((sequence) =>
            Array.from(
              { length: steps },
              (_, taken) =>
                cuts.temperature === 0
                  ? largest
                  : drawReference(logits, cuts, [seed, sequence, taken]),
            )
          ),
      );
      trial.expectExactly(counts, () => new Array(B).fill(steps));
      trial.expectExactly(done, () => new Array(B).fill(1));
      trial.expectExactly(errors, () => new Array(B).fill(0));
    }
  },
};
