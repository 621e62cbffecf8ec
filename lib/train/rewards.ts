// Rewards of GRPO, one function a type, with the values of the authors' GSM8K example (METHOD.md,
// section 3; the format rewards are those of Will Brown's well-known GRPO demo). A completion should be
//   <reasoning>\n…\n</reasoning>\n<answer>\n…\n</answer>\n
// `regex` and `length` are ours. Where the example compares answers as text, we compare numbers, so that
// 1,080 equals 1080; `integer` takes a minus sign too. Left out: rewards that ask another model.

import type { Sample } from "../data/record.ts";
import { sampleName } from "../data/sample.ts";
import { NumericError } from "../errors.ts";
import {
  checkReferences,
  finalAnswer,
  patternOf,
  reference,
  sameAnswer,
  statedAnswer,
} from "./grade.ts";
import type { RewardSettings } from "./settings.ts";

export interface CompletionInfo {
  /** Tokens of the completion, the end of turn included. */
  tokens: number;
}

export interface Score {
  /** The weighted sum. */
  total: number;
  /** Each reward before its weight, by `rewardNames`. */
  each: Record<string, number>;
}

/** The names of rewards: their types, numbered from the second of a type on (`regex`, `regex_2`). */
export function rewardNames(settings: RewardSettings[]): string[] {
  return settings.map(({ type }, index) => {
    const earlier = settings.slice(0, index).filter((other) => other.type === type).length;
    return earlier === 0 ? type : `${type}_${earlier + 1}`;
  });
}

/**
 * Scores one completion by every reward.
 * @throws {InvalidRequest} when math_answer is asked for and the sample has no answer, or a pattern
 * cannot be used. @throws {NumericError} when the sum is NaN or Inf.
 */
export function scoreCompletion(
  settings: RewardSettings[],
  completion: string,
  sample: Sample,
  info: CompletionInfo,
): Score {
  const names = rewardNames(settings);
  const each: Record<string, number> = {};
  let total = 0;
  for (const [index, one] of settings.entries()) {
    each[names[index]] = rewardOf(one, completion, sample, info);
    total += one.weight * each[names[index]];
    // One such reward would make every advantage of its group NaN, and the policy after it.
    if (!Number.isFinite(total)) {
      throw new NumericError(
        `Cannot score an answer to ${sampleName(sample)}: the sum of rewards is ${total} with ` +
          `${names[index]} (${each[names[index]]} at weight ${one.weight}). Lower the weight, or ` +
          "leave the reward or the sample out.",
      );
    }
  }
  return { total, each };
}

/**
 * Checks before a job starts what would end it later.
 * @throws {InvalidRequest} when a pattern cannot be used or math_answer lacks a reference.
 */
export function checkRewards(settings: RewardSettings[], samples: Sample[]): void {
  for (const one of settings) {
    if (one.type === "regex") patternOf(one);
    if (one.type === "math_answer") checkReferences(samples);
  }
}

/** One reward, before its weight. */
function rewardOf(
  settings: RewardSettings,
  completion: string,
  sample: Sample,
  info: CompletionInfo,
): number {
  switch (settings.type) {
    case "math_answer":
      return mathAnswer(completion, sample);
    case "integer":
      return integer(completion);
    case "strict_format":
      return strictFormat(completion);
    case "soft_format":
      return softFormat(completion);
    case "xml_count":
      return xmlCount(completion);
    case "regex":
      return patternOf(settings).matches(completion) ? 1 : 0;
    case "length":
      return length(info.tokens, settings.target);
  }
}

/**
 * 2 when the stated answer is the reference's: a number merely mentioned on the way does not count, so
 * the answer stands in a tag, after `####`, in a box, or is all there is.
 */
export function mathAnswer(completion: string, sample: Sample): number {
  const stated = statedAnswer(completion) ?? completion.trim();
  return sameAnswer(stated, finalAnswer(reference(sample))) ? 2 : 0;
}

/** 0.5 when the stated answer is an integer in digits. */
export function integer(completion: string): number {
  const stated = statedAnswer(completion) ?? completion.trim();
  return /^-?\d+$/.test(stated) ? 0.5 : 0;
}

/** 0.5 when the completion is exactly the wanted form, with its line ends. */
export function strictFormat(completion: string): number {
  const open = "<reasoning>\n", middle = "\n</reasoning>\n<answer>\n", close = "\n</answer>\n";
  // Python's $ also matches before a last line end.
  const text = completion.endsWith(`${close}\n`) ? completion.slice(0, -1) : completion;
  if (!text.startsWith(open) || !text.endsWith(close)) return 0;
  const at = text.indexOf(middle, open.length);
  return at >= 0 && at + middle.length <= text.length - close.length ? 0.5 : 0;
}

/** 0.5 when the completion begins with both tags in order; spaces and what follows don't matter. */
export function softFormat(completion: string): number {
  const open = "<reasoning>", close = "</reasoning>", answer = "<answer>";
  const text = completion.trim();
  if (!text.startsWith(open)) return 0;
  for (let at = open.length; (at = text.indexOf(close, at)) >= 0;) {
    at += close.length;
    let next = at;
    while (next < text.length && text[next].trim() === "") next++;
    if (!text.startsWith(answer, next)) continue;
    return text.includes("</answer>", next + answer.length) ? 0.5 : 0;
  }
  return 0;
}

/**
 * 0.125 for each of the four tags that is there exactly once in its place, less 0.001 for every
 * character after the end; it goes below 0 when much follows.
 */
export function xmlCount(completion: string): number {
  const pieces = (tag: string) => completion.split(tag);
  const once = (tag: string) => pieces(tag).length === 2;
  const characters = (text: string) => [...text].length;
  let reward = 0;
  if (once("<reasoning>\n")) reward += 0.125;
  if (once("\n</reasoning>\n")) reward += 0.125;
  if (once("\n<answer>\n")) {
    reward += 0.125;
    reward -= characters(pieces("\n</answer>\n").at(-1)!) * 0.001;
  }
  if (once("\n</answer>")) {
    reward += 0.125;
    reward -= (characters(pieces("\n</answer>").at(-1)!) - 1) * 0.001;
  }
  return reward;
}

/** 1 at `target` tokens, falling linearly to 0 at none and at twice the target. */
export function length(tokens: number, target: number): number {
  return Math.max(0, 1 - Math.abs(tokens - target) / target);
}
