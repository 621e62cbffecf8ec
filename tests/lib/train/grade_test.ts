import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { readSamples } from "../../../lib/data/dataset.ts";
import { InvalidRequest } from "../../../lib/errors.ts";
import {
  checkGrader,
  contains,
  finalAnswer,
  grade,
  parseNumber,
  sameAnswer,
  wilsonInterval,
} from "../../../lib/train/grade.ts";
import { assertThrows } from "../../asserts.ts";

const sampleWith = (answer: string) => readSamples([{ question: "How many?", answer }])[0];

for (
  const [text, wanted] of [
    ["72", 72],
    [" -5. ", -5],
    ["$1,080.50", 1080.5],
    ["-$3", -3],
    ["72%", 72],
    ["3/4", 0.75],
    ["$12$", 12],
    ["$ 12. $", 12],
    ["$$", null],
    ["$", null],
    ["50\\%", 50],
    ["1e3", 1000],
    [".5", 0.5],
    ["72 apples", null],
    ["", null],
    ["1/0", null],
    ["-", null],
  ] as const
) {
  Deno.test(`grade: ${JSON.stringify(text)} is the number ${wanted}`, () => {
    assertEquals(parseNumber(text), wanted);
  });
}

for (
  const [text, wanted] of [
    ["First 5.\n<answer>\n72\n</answer>\nDone in 3 steps.", "72"],
    ["<answer>1</answer> no, <answer>about 2 dogs", "2"],
    ["It costs 3.\n#### 1,080\nBye 4", "1,080"],
    ["so \\boxed{\\frac{1}{2}}", "2"],
    ["so \\boxed{12} because of 3", "12"],
    ["He has 10-4 = 6 apples.", "6"],
    ["The change is -4 degrees.", "-4"],
    ["10-4", "4"],
    ["Paris", "Paris"],
    ["", ""],
  ] as const
) {
  Deno.test(`grade: the final answer of ${JSON.stringify(text)}`, () => {
    assertEquals(finalAnswer(text), wanted);
  });
}

Deno.test("grade: a number past the range of f64 is a text, and equals no other number", () => {
  const nines = "9".repeat(400);
  for (const huge of ["1e999", "-1e999", nines, `${nines}/2`, `1/0.${"0".repeat(400)}1`]) {
    assertEquals(parseNumber(huge), null, huge);
    assert(!sameAnswer(huge, "72") && !sameAnswer("72", huge), huge);
    assert(sameAnswer(huge, huge), huge);
  }
});

Deno.test("grade: answers are compared as numbers, else as text", () => {
  assert(sameAnswer("1,080.0", "$1080"));
  assert(sameAnswer("1/2", "0.5"));
  assert(!sameAnswer("72", "-72"));
  assert(sameAnswer(" Paris", "Paris "));
  assert(!sameAnswer("", ""));
  assert(!sameAnswer("seven", "7"));
});

Deno.test("grade: math_answer finds the number on both sides", () => {
  const grader = { type: "math_answer" } as const;
  const sample = sampleWith("9*120=<<9*120=1080>>1080\n#### 1,080");
  assert(grade(grader, "That makes 1080 clips.", sample));
  assert(grade(grader, "<answer>$1080.00</answer>", sample));
  assert(!grade(grader, "1080 less 1 is 1079", sample));
  assertThrows(
    () => grade(grader, "1", readSamples([{ question: "How many?" }])[0]),
    (error) =>
      error instanceof InvalidRequest && /answer to the sample "How many\?": it has none/.test(
        error.message,
      ),
  );
});

Deno.test("grade: a sample without a reference is named by its number from 1, before the job", () => {
  const samples = readSamples([{ question: "a", answer: "1" }, { question: "b" }, {
    question: "c",
  }]);
  assertThrows(
    () => checkGrader({ type: "math_answer" }, samples),
    (error) =>
      error instanceof InvalidRequest &&
      /2 of 3 samples have none, the first is sample 2 \("b"\)/.test(error.message),
  );
  checkGrader({ type: "regex", pattern: "x" }, samples);
});

Deno.test("grade: string_check's four operations", () => {
  const check = (operation: "eq" | "ne" | "like" | "ilike", text: string) =>
    grade({ type: "string_check", operation }, text, sampleWith("Paris"));
  assertEquals([check("eq", "Paris\n"), check("eq", "paris")], [true, false]);
  assertEquals([check("ne", "Paris"), check("ne", "Rome")], [false, true]);
  assertEquals([check("like", "In Paris."), check("like", "in paris")], [true, false]);
  assertEquals([check("ilike", "in paris"), check("ilike", "Rome")], [true, false]);
});

Deno.test("grade: contains is String.includes", () => {
  const text = fc.array(fc.constantFrom("a", "b", "é"), { maxLength: 12 }).map((all) =>
    all.join("")
  );
  fc.assert(
    fc.property(text, text, (text, wanted) => contains(text, wanted) === text.includes(wanted)),
    { numRuns: 2000 },
  );
});

Deno.test("grade: regex looks anywhere in the completion", () => {
  const grader = { type: "regex", pattern: "\\b7\\d$" } as const;
  assertEquals(["so 72", "172", "72."].map((text) => grade(grader, text, sampleWith("x"))), [
    true,
    false,
    false,
  ]);
});

Deno.test("wilsonInterval: published values, and bounds", () => {
  // Newcombe, Statistics in Medicine 17 (1998), table I, score method: 81/263, 15/148, 0/20, 1/29.
  for (
    const [correct, count, low, high] of [
      [81, 263, 0.2553, 0.3662],
      [15, 148, 0.0624, 0.1605],
      [0, 20, 0, 0.1611],
      [1, 29, 0.0061, 0.1718],
    ]
  ) {
    const given = wilsonInterval(correct, count);
    assert(
      Math.abs(given[0] - low) < 5e-5 && Math.abs(given[1] - high) < 5e-5,
      `${correct}/${count}: ${given}`,
    );
  }
  assertEquals(wilsonInterval(0, 0), [0, 1]);
  fc.assert(fc.property(fc.nat(1000), fc.nat(1000), (correct, wrong) => {
    fc.pre(correct + wrong > 0);
    const [low, high] = wilsonInterval(correct, correct + wrong);
    const share = correct / (correct + wrong);
    assert(0 <= low && low <= share + 1e-12 && share <= high + 1e-12 && high <= 1);
  }));
});
