import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { readSamples } from "../../../lib/data/dataset.ts";
import { InvalidRequest, NumericError } from "../../../lib/errors.ts";
import {
  checkRewards,
  integer,
  length,
  mathAnswer,
  rewardNames,
  scoreCompletion,
  softFormat,
  strictFormat,
  xmlCount,
} from "../../../lib/train/rewards.ts";
import type { RewardSettings } from "../../../lib/train/settings.ts";
import { assertThrows } from "../../asserts.ts";

const good = "<reasoning>\n6*12=72\n</reasoning>\n<answer>\n72\n</answer>\n";
const [sample] = readSamples([{ question: "6*12?", answer: "6*12=72\n#### 72" }]);

// What the functions of the authors' example give in Python: integer, strict, soft, tag count.
const cases: [string, number, number, number, number][] = [
  [good, 0.5, 0.5, 0.5, 0.5],
  [good.slice(0, -1), 0.5, 0, 0.5, 0.447],
  [good + "\n", 0.5, 0.5, 0.5, 0.498],
  [good + "so é😀", 0.5, 0, 0.5, 0.49],
  [good.replaceAll("\n", ""), 0.5, 0, 0.5, 0],
  ["  " + good, 0.5, 0, 0.5, 0.5],
  [good + "x" + good, 0.5, 0.5, 0.5, 0],
  ["72", 0.5, 0, 0, 0],
  ["", 0, 0, 0, 0],
  ["<answer>\n72", 0.5, 0, 0, 0],
  ["<reasoning>\n<reasoning>\n" + good, 0.5, 0.5, 0.5, 0.375],
];

for (const [text, ...wanted] of cases) {
  Deno.test(`rewards: the authors' formats on ${JSON.stringify(text)}`, () => {
    assertEquals([integer(text), strictFormat(text), softFormat(text)], wanted.slice(0, 3));
    assert(Math.abs(xmlCount(text) - wanted[3]) < 1e-9, `${xmlCount(text)}, not ${wanted[3]}`);
  });
}

for (
  const [text, wanted] of [
    [good, 2],
    [good.replace("\n72\n", "72.0"), 2],
    ["so it is\n#### 72", 2],
    ["\\boxed{72}", 2],
    ["$72", 2],
    ["It is 72", 0],
    [good.replace("\n72\n", "72 apples"), 0],
    [good.replace("\n72\n", "73"), 0],
    ["<answer></answer>", 0],
  ] as const
) {
  Deno.test(`rewards: math_answer gives ${wanted} to ${JSON.stringify(text)}`, () => {
    assertEquals(mathAnswer(text, sample), wanted);
  });
}

Deno.test("rewards: integer takes digits and a minus sign, nothing else", () => {
  const given = ["-5", "5.0", "1,080", "5 apples"].map((text) =>
    integer(`<answer>${text}</answer>`)
  );
  assertEquals(given, [0.5, 0, 0, 0]);
});

Deno.test("rewards: length is full at the target and 0 at none and at twice it", () => {
  assertEquals([0, 5, 10, 15, 20, 99].map((tokens) => length(tokens, 10)), [0, 0.5, 1, 0.5, 0, 0]);
});

Deno.test("rewards: the total is weighted, each is not", () => {
  const settings: RewardSettings[] = [
    { type: "math_answer", weight: 1 },
    { type: "regex", weight: 3, pattern: "^<reasoning>" },
    { type: "regex", weight: -2, pattern: "sorry" },
    { type: "length", weight: 0.5, target: 20 },
    { type: "strict_format", weight: 2 },
  ];
  assertEquals(rewardNames(settings), [
    "math_answer",
    "regex",
    "regex_2",
    "length",
    "strict_format",
  ]);
  assertEquals(scoreCompletion(settings, good, sample, { tokens: 10 }), {
    total: 2 + 3 + 0 + 0.25 + 1,
    each: { math_answer: 2, regex: 1, regex_2: 0, length: 0.5, strict_format: 0.5 },
  });
});

Deno.test("rewards: a missing reference and a bad pattern are found before the job", () => {
  const unanswered = readSamples([{ question: "Why?" }]);
  const math: RewardSettings[] = [{ type: "math_answer", weight: 1 }];
  checkRewards(math, [sample]);
  checkRewards([{ type: "integer", weight: 1 }], unanswered);
  assertThrows(
    () => checkRewards(math, unanswered),
    (error) => error instanceof InvalidRequest && /sample 1 \("Why\?"\)/.test(error.message),
  );
  assertThrows(
    () => checkRewards([{ type: "regex", weight: 1, pattern: "(" }], []),
    (error) => error instanceof InvalidRequest && error.param === "pattern",
  );
});

Deno.test("rewards: a sum that is no number is refused, and the sample is named", () => {
  const settings = (weight: number): RewardSettings[] => [
    { type: "strict_format", weight: 1 },
    { type: "math_answer", weight },
  ];
  for (const weight of [1e308, -1e308, Infinity, NaN]) {
    assertThrows(
      () => scoreCompletion(settings(weight), good, sample, { tokens: 1 }),
      (error) =>
        error instanceof NumericError &&
        /the sample "6\*12\?".* with math_answer \(2 at weight/.test(error.message),
    );
  }
  const length: RewardSettings[] = [{ type: "length", weight: 1, target: 0 }];
  assertThrows(() => scoreCompletion(length, good, sample, { tokens: 0 }), NumericError);
});

Deno.test("rewards: the formats are those of the authors' regular expressions", () => {
  const strict = /^<reasoning>\n.*?\n<\/reasoning>\n<answer>\n.*?\n<\/answer>\n\n?$/s;
  const soft = /^<reasoning>.*?<\/reasoning>\s*<answer>.*?<\/answer>/s;
  const piece = fc.constantFrom(
    "<reasoning>",
    "</reasoning>",
    "<answer>",
    "</answer>",
    "\n",
    " ",
    "a",
  );
  const inOrder = ["<reasoning>", "\n", "</reasoning>", "\n", "<answer>", "\n", "</answer>", "\n"];
  let matches = 0;
  fc.assert(
    fc.property(
      fc.array(fc.array(piece, { maxLength: 3 }), { minLength: 9, maxLength: 9 }),
      fc.subarray(inOrder, { minLength: 6 }),
      (between, tags) => {
        const text = tags.map((tag, i) => tag + between[i].join("")).join("");
        assertEquals(strictFormat(text), strict.test(text) ? 0.5 : 0, JSON.stringify(text));
        assertEquals(softFormat(text), soft.test(text.trim()) ? 0.5 : 0, JSON.stringify(text));
        if (softFormat(text) > 0) matches++;
      },
    ),
    { numRuns: 3000 },
  );
  assert(matches > 300 && matches < 2700, `${matches} match`);
  for (const end of ["", "\n", "\n\n", "\n\n\n"]) {
    const text = `<reasoning>\n\n</reasoning>\n<answer>\n\n</answer>${end}`;
    assertEquals(strictFormat(text), strict.test(text) ? 0.5 : 0, JSON.stringify(text));
  }
});
