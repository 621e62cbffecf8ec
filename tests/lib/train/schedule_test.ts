import { learningRateFactor, type Schedule, warmupSteps } from "../../../lib/train/schedule.ts";
import { assert, assertEquals } from "../../asserts.ts";

const factors = (schedule: Schedule, total: number, warmup: number) =>
  Array.from({ length: total }, (_, step) => learningRateFactor(schedule, step, total, warmup));

function assertNear(given: number[], wanted: number[]) {
  assertEquals(given.length, wanted.length);
  for (const [step, value] of given.entries()) {
    assert(Math.abs(value - wanted[step]) <= 1e-15, `step ${step}: ${value}, not ${wanted[step]}`);
  }
}

// From transformers 5.23: get_cosine_schedule_with_warmup(o, 3, 10), get_linear_… and get_constant_….
Deno.test("schedule: Transformers' factors", () => {
  assertNear(factors("cosine", 10, 3), [
    0.0,
    0.3333333333333333,
    0.6666666666666666,
    1.0,
    0.9504844339512095,
    0.8117449009293668,
    0.6112604669781572,
    0.38873953302184283,
    0.18825509907063326,
    0.04951556604879048,
  ]);
  assertNear(factors("linear", 10, 3), [
    0.0,
    0.3333333333333333,
    0.6666666666666666,
    1.0,
    0.8571428571428571,
    0.7142857142857143,
    0.5714285714285714,
    0.42857142857142855,
    0.2857142857142857,
    0.14285714285714285,
  ]);
  assertEquals(factors("constant", 10, 3), new Array(10).fill(1));
});

Deno.test("schedule: warm-up is rounded up, and may be nothing or everything", () => {
  assertEquals([warmupSteps(100, 0.03), warmupSteps(101, 0.03), warmupSteps(7, 0)], [3, 4, 0]);
  assertEquals(factors("linear", 2, 0), [1, 0.5]);
  assertEquals(factors("cosine", 1, 0), [1]);
  assertEquals(factors("cosine", 2, 2), [0, 0.5]);
  assertEquals(learningRateFactor("linear", 12, 10, 0), 0);
});
