// Graders: is an answer right, yes or no. `math_answer` compares the final number of the answer with
// that of the reference; `string_check` compares texts; `regex` looks for a pattern (pattern.ts).
// A final answer is, in this order: the last `<answer>…</answer>`, what follows the last `####`, the last
// `\boxed{…}`, else the last number of the text. Left out: symbolic algebra (x+1 is not 1+x here).
// Texts come from models and from data sets: everything here takes time linear in their length.

import { InvalidRequest } from "../errors.ts";
import type { Sample } from "../data/record.ts";
import { sampleName } from "../data/sample.ts";
import { compilePattern, type Pattern } from "./pattern.ts";
import type { GraderSettings } from "./settings.ts";

/**
 * Whether a completion is right.
 * @throws {InvalidRequest} when the grader needs a reference and the sample has no answer.
 */
export function grade(settings: GraderSettings, completion: string, sample: Sample): boolean {
  switch (settings.type) {
    case "math_answer":
      return sameAnswer(finalAnswer(completion), finalAnswer(reference(sample)));
    case "string_check":
      return checkString(settings.operation, completion.trim(), reference(sample).trim());
    case "regex":
      return patternOf(settings).matches(completion);
  }
}

/**
 * Checks before a job starts what would end it later.
 * @throws {InvalidRequest} when a pattern cannot be used or a sample lacks the reference.
 */
export function checkGrader(settings: GraderSettings, samples: Sample[]): void {
  if (settings.type === "regex") patternOf(settings);
  else checkReferences(samples);
}

/** `like` and `ilike` ask whether the completion contains the reference, as OpenAI's grader does. */
function checkString(
  operation: "eq" | "ne" | "like" | "ilike",
  completion: string,
  wanted: string,
): boolean {
  switch (operation) {
    case "eq":
      return completion === wanted;
    case "ne":
      return completion !== wanted;
    case "like":
      return contains(completion, wanted);
    case "ilike":
      return contains(completion.toLowerCase(), wanted.toLowerCase());
  }
}

/**
 * Whether `wanted` stands somewhere in `text`, by Knuth, Morris and Pratt (SIAM Journal on Computing 6,
 * 1977). String.includes takes 9 s to look for 100,000 letters in 200,000 that nearly match.
 */
export function contains(text: string, wanted: string): boolean {
  // Of each beginning of `wanted`, how much of it is also its end.
  const overlap = new Int32Array(wanted.length);
  const extend = (matched: number, character: number) => {
    while (matched > 0 && wanted.charCodeAt(matched) !== character) matched = overlap[matched - 1];
    return wanted.charCodeAt(matched) === character ? matched + 1 : 0;
  };
  for (let i = 1, matched = 0; i < wanted.length; i++) {
    overlap[i] = matched = extend(matched, wanted.charCodeAt(i));
  }
  let matched = 0;
  for (let i = 0; i < text.length && matched < wanted.length; i++) {
    matched = extend(matched, text.charCodeAt(i));
  }
  return matched === wanted.length;
}

/** A sample's answer. @throws {InvalidRequest} when it has none. */
export function reference(sample: Sample): string {
  if (sample.answer !== null) return sample.answer;
  throw new InvalidRequest(`Cannot compare with the answer to ${sampleName(sample)}: it has none`);
}

/** @throws {InvalidRequest} naming the first sample that has no answer, and how many have none. */
export function checkReferences(samples: Sample[]): void {
  const missing = samples.filter(({ answer }) => answer === null);
  if (missing.length === 0) return;
  const number = samples.indexOf(missing[0]) + 1;
  throw new InvalidRequest(
    `Cannot compare with the answers: ${missing.length} of ${samples.length} samples have none, the ` +
      `first is ${sampleName(missing[0], number)}. Add answers or drop the samples`,
  );
}

const patterns = new WeakMap<object, Pattern>();

/** The compiled pattern of a grader or reward. @throws {InvalidRequest} when it cannot be used. */
export function patternOf(settings: { pattern: string }): Pattern {
  let pattern = patterns.get(settings);
  if (!pattern) patterns.set(settings, pattern = compilePattern(settings.pattern, "pattern"));
  return pattern;
}

// --- answers ---

// A sign right after a digit is an operator.
const number = /(?:(?<![\d.)])[-+])?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?/g;

/** The answer a text states in a place made for it, or null: a tag, `####` or a box. */
export function statedAnswer(text: string): string | null {
  const tag = text.lastIndexOf("<answer>");
  if (tag >= 0) return text.slice(tag + "<answer>".length).split("</answer>")[0].trim();
  const hashes = text.lastIndexOf("####");
  if (hashes >= 0) return text.slice(hashes + "####".length).trim().split("\n")[0].trim();
  const box = text.lastIndexOf("\\boxed{");
  return box < 0 ? null : boxed(text.slice(box + "\\boxed{".length)).trim();
}

/** What stands before the brace that closes the box. */
function boxed(text: string): string {
  let depth = 1;
  for (let i = 0; i < text.length; i++) {
    if (text[i] === "{") depth++;
    if (text[i] === "}" && --depth === 0) return text.slice(0, i);
  }
  return text;
}

/** The final answer of a text: its number where it has one, the text itself otherwise. */
export function finalAnswer(text: string): string {
  const stated = statedAnswer(text) ?? text.trim();
  if (parseNumber(stated) !== null) return stated;
  return stated.match(number)?.at(-1) ?? stated;
}

/** Whether two answers are the same number, or the same text where one is no number. */
export function sameAnswer(given: string, wanted: string): boolean {
  const a = parseNumber(given), b = parseNumber(wanted);
  if (a === null || b === null) return given.trim() === wanted.trim() && given.trim() !== "";
  return Math.abs(a - b) <= 1e-9 * Math.max(1, Math.abs(a), Math.abs(b));
}

/**
 * The number a text is, or null when it is more or less than one number. Currency, per cent, commas
 * between digits, a final full stop and fractions like 3/4 are understood.
 */
export function parseNumber(text: string): number | null {
  const bare = withoutEnd(withoutEnd(withoutDollars(text.trim()), "."), "\\%", "%")
    .replace(/^([-+]?)\s*\\?[$€£]\s*/, "$1").trim();
  const fraction = bare.match(/^([-+]?[\d.,]+)\s*\/\s*([\d.,]+)$/);
  if (fraction) {
    const over = parseNumber(fraction[1]), under = parseNumber(fraction[2]);
    return over === null || under === null ? null : finite(over / under);
  }
  const [whole] = bare.match(number) ?? [];
  if (whole === undefined || whole !== bare) return null;
  return finite(Number(whole.replaceAll(",", "")));
}

/** Infinity would be within the tolerance of every number. */
function finite(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}

/** The text between the dollar signs of a formula. */
function withoutDollars(text: string): string {
  const isFormula = text.length >= 2 && text.startsWith("$") && text.endsWith("$");
  return isFormula ? text.slice(1, -1).trim() : text;
}

/** The text without the first of these ends that it has. */
function withoutEnd(text: string, ...ends: string[]): string {
  const end = ends.find((one) => text.endsWith(one)) ?? "";
  return text.slice(0, text.length - end.length);
}

/**
 * Wilson's score interval for a share of `correct` in `count`, [low, high] in [0, 1]: 95 % by default.
 * E. B. Wilson, JASA 22 (1927).
 */
export function wilsonInterval(
  correct: number,
  count: number,
  z = 1.959963984540054,
): [number, number] {
  if (count === 0) return [0, 1];
  const share = correct / count, z2 = z * z;
  const centre = (share + z2 / (2 * count)) / (1 + z2 / count);
  const half = z / (1 + z2 / count) *
    Math.sqrt(share * (1 - share) / count + z2 / (4 * count * count));
  return [Math.max(0, centre - half), Math.min(1, centre + half)];
}
