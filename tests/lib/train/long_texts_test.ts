// What reads a model's or a data set's text takes time linear in its length: 200,000 characters of every
// shape within seconds, where a backtracking expression would take minutes or hours.

import { assert } from "@std/assert";
import { readVote } from "../../../lib/par/classify.ts";
import type { Sample } from "../../../lib/data/record.ts";
import { finalAnswer, grade, parseNumber, sameAnswer } from "../../../lib/train/grade.ts";
import { scoreCompletion } from "../../../lib/train/rewards.ts";
import {
  type GraderSettings,
  type RewardSettings,
  rewardSettings,
} from "../../../lib/train/settings.ts";

const size = 200_000;
const deadlineMs = 2000;

const pieces = [
  " ",
  "\n",
  "\t\n",
  "$",
  "$ ",
  "-",
  "+",
  "7",
  "7,",
  "7.",
  "1e",
  "1e1",
  "%",
  "\\",
  "\\%",
  "\\boxed{",
  "{",
  "####",
  "/",
  "1/2",
  "<",
  "<reasoning>",
  "<reasoning>\n",
  "</reasoning>",
  "</reasoning> ",
  "\n</reasoning>\n<answer>\n",
  "<answer>",
  "<answer>\n",
  "\n</answer>\n",
  "</answer>",
  "<think>",
  "</think>",
  "s",
  "System",
  "System1",
  "system 2\n",
  "not System1 ",
  "not a a a ",
  "answer:",
  "verdict ",
  "*",
  "é",
  "😀",
];
/** Around the repeated piece, where an expression would begin to match and then fail. */
const frames: [string, string][] = [
  ["", ""],
  ["$", "x"],
  ["<reasoning>\n", "x"],
  ["<reasoning>x</reasoning><answer>", "</answer"],
  ["System1", "System2 x"],
];

const sample = (answer: string): Sample => ({ prompt: [], answer, system: null, item: {} });
const rewards: RewardSettings[] = rewardSettings.options.map((option) =>
  rewardSettings.parse({
    type: option.shape.type.value,
    ...(option.shape.type.value === "regex" ? { pattern: "(a+)+$|\\d,?$" } : {}),
    ...(option.shape.type.value === "length" ? { target: 10 } : {}),
  })
);
const graders: GraderSettings[] = [
  { type: "math_answer" },
  { type: "string_check", operation: "eq" },
  { type: "string_check", operation: "ilike" },
  { type: "regex", pattern: "(\\s|\\$)*x$" },
];

for (const piece of pieces) {
  Deno.test(`long texts: ${JSON.stringify(piece)} repeated is read in linear time`, () => {
    for (const [before, after] of frames) {
      const text = before + piece.repeat(size / piece.length) + after;
      const half = text.slice(0, size / 2);
      const begin = performance.now();
      readVote(text);
      finalAnswer(text);
      parseNumber(text);
      sameAnswer(text, half);
      for (const grader of graders) {
        grade(grader, text, sample(`${half}!${half}`));
        grade(grader, half, sample(text));
      }
      scoreCompletion(rewards, text, sample(half), { tokens: size });
      const ms = performance.now() - begin;
      assert(ms < deadlineMs, `${before}…${after}: ${ms} ms`);
    }
  });
}
