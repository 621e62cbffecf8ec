import { assert, assertEquals } from "@std/assert";
import golden from "../../golden/schedules.json" with { type: "json" };
import { learningRateFactor, type Schedule, warmupSteps } from "../../../lib/train/schedule.ts";

const factors = (schedule: Schedule, total: number, warmup: number) =>
  Array.from({ length: total }, (_, step) => learningRateFactor(schedule, step, total, warmup));

function assertNear(given: number[], wanted: number[]) {
  assertEquals(given.length, wanted.length);
  for (const [step, value] of given.entries()) {
    assert(Math.abs(value - wanted[step]) <= 1e-15, `step ${step}: ${value}, not ${wanted[step]}`);
  }
}

for (const { name, warmup_steps, total_steps, factors: wanted } of golden.schedules) {
  Deno.test(`schedule: Transformers' ${name}, warm-up ${warmup_steps} of ${total_steps}`, () => {
    assertNear(
      wanted.map((_, step) =>
        learningRateFactor(name as Schedule, step, total_steps, warmup_steps)
      ),
      wanted,
    );
  });
}

Deno.test("schedule: constant has no warm-up", () => {
  assertEquals(factors("constant", 10, 3), new Array(10).fill(1));
});

Deno.test("schedule: warm-up is rounded up, and may be nothing or everything", () => {
  assertEquals([warmupSteps(100, 0.03), warmupSteps(101, 0.03), warmupSteps(7, 0)], [3, 4, 0]);
  assertEquals(factors("linear", 2, 0), [1, 0.5]);
  assertEquals(factors("cosine", 1, 0), [1]);
  assertEquals(factors("cosine", 2, 2), [0, 0.5]);
  assertEquals(learningRateFactor("linear", 12, 10, 0), 0);
});
