import { groupAdvantages, tokenWeights } from "../../../lib/train/grpo_loss.ts";
import { assertEquals, assertStrictEquals } from "../../asserts.ts";

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
  assertEquals(weigh("dr_grpo"), [1 / 40, 1 / 40]);
  assertEquals(weigh("dapo"), [1 / 10, 1 / 10]);
  assertEquals(weigh("dapo", [true, false]), [0, 1 / 6]);
  assertStrictEquals(weigh("grpo", [true, true])[0], 0);
});
