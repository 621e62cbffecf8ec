import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { groupAdvantages, tokenWeights } from "../../../lib/train/grpo_loss.ts";

Deno.test("groupAdvantages: equal rewards give exactly 0, though their mean is rounded", () => {
  // The mean of eight 0.2 is 0.19999999999999998.
  assertEquals(groupAdvantages(new Array(8).fill(0.2), true), new Array(8).fill(0));
  assertEquals(groupAdvantages(new Array(8).fill(0.2), false), new Array(8).fill(0));
});

Deno.test("groupAdvantages: (r - mean) / (unbiased std + 1e-4), or r - mean", () => {
  const std = Math.sqrt(((1 - 2) ** 2 + (3 - 2) ** 2) / 1);
  assertEquals(groupAdvantages([1, 3], true), [-1 / (std + 1e-4), 1 / (std + 1e-4)]);
  assertEquals(groupAdvantages([1, 3], false), [-1, 1]);
});

Deno.test("tokenWeights: each loss weighs as TRL does, and a masked completion not at all", () => {
  const weigh = (loss_type: "grpo" | "dr_grpo" | "dapo", masked = [false, false]) =>
    tokenWeights([4, 6], masked, { loss_type, max_completion_length: 20 });
  assertEquals(weigh("grpo"), [1 / 8, 1 / 12]);
  assertEquals(weigh("grpo", [true, false]), [0, 1 / 12]);
  assertEquals(weigh("dr_grpo"), [1 / 40, 1 / 40]);
  assertEquals(weigh("dr_grpo", [true, false]), [0, 1 / 40]);
  assertEquals(weigh("dapo"), [1 / 10, 1 / 10]);
  assertEquals(weigh("dapo", [true, false]), [0, 1 / 6]);
  assertStrictEquals(weigh("grpo", [true, true])[0], 0);
});

/**
 * The loss from per-token losses as TRL 1.16 writes it (GRPOTrainer._compute_loss): `mask` is the
 * completion mask after truncated completions were taken out of it, and dapo's normalizer,
 * num_items_in_batch, is counted from that mask. Up to TRL 1.8 it was counted before (pull request 6439).
 */
function lossOfTrl(
  lossType: "grpo" | "dr_grpo" | "dapo",
  losses: number[][],
  masked: boolean[],
  maxCompletionLength: number,
): number {
  const mask = losses.map((tokens, i) => tokens.map(() => masked[i] ? 0 : 1));
  const sum = (values: number[]) => values.reduce((total, value) => total + value, 0);
  const kept = losses.map((tokens, i) => sum(tokens.map((loss, t) => loss * mask[i][t])));
  const counts = mask.map((row) => sum(row));
  switch (lossType) {
    case "grpo":
      return sum(kept.map((loss, i) => loss / Math.max(1, counts[i]))) / losses.length;
    case "dr_grpo":
      return sum(kept) / (losses.length * maxCompletionLength);
    case "dapo":
      return sum(kept) / Math.max(1, sum(counts));
  }
}

for (const lossType of ["grpo", "dr_grpo", "dapo"] as const) {
  Deno.test(`tokenWeights: ${lossType} is TRL's loss, whichever completions are masked`, () => {
    const losses = [3, 1, 7, 12].map((length, i) =>
      Array.from({ length }, (_, t) => Math.sin(10 * i + t))
    );
    for (let bits = 0; bits < 16; bits++) {
      const masked = losses.map((_, i) => (bits >> i & 1) === 1);
      const weights = tokenWeights(losses.map(({ length }) => length), masked, {
        loss_type: lossType,
        max_completion_length: 12,
      });
      const loss = losses.flatMap((tokens, i) => tokens.map((one) => one * weights[i]))
        .reduce((total, one) => total + one, 0);
      const wanted = lossOfTrl(lossType, losses, masked, 12);
      assert(Math.abs(loss - wanted) < 1e-12, `masked ${masked}: ${loss}, wanted ${wanted}`);
    }
  });
}
