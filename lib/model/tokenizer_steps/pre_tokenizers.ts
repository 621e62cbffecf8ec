// How a text is cut into the pieces that a model merges within, as Hugging Face's `tokenizers` does it (rust,
// pre_tokenizers/). All steps come down to a split: where a pattern is found, and what becomes of the matches.

import { findAll, type Json, type Step } from "./step.ts";

/** A piece of a text, and whether it begins where the text does. */
export interface Piece {
  text: string;
  first: boolean;
}

export type PreTokenizer = (pieces: Piece[]) => Piece[];

/** GPT-2's split into words, numbers, punctuation and spaces. */
export const gpt2Pattern =
  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/** A step that makes each match of a pattern a piece of its own. */
export function isolate(pattern: string): Json {
  return { type: "Split", pattern: { Regex: pattern }, behavior: "Isolated", invert: false };
}

const behaviors = [
  "Removed",
  "Isolated",
  "MergedWithPrevious",
  "MergedWithNext",
  "Contiguous",
] as const;
type Behavior = typeof behaviors[number];

/** Rust's `regex` crate has other words than Oniguruma. */
const word = "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\u200c\\u200d]";
const words = new RegExp(
  `${word}+|(?!${word})[^\\p{White_Space}](?:(?!${word})[^\\p{White_Space}])*`,
  "gu",
);
const punctuation = /[\p{P}!-/:-@[-`{-~]/gu;

/** @throws {InvalidFile} for a step that is damaged or not done here */
export function preTokenizerOf(step: Step): PreTokenizer {
  switch (step.type) {
    case "Sequence": {
      const steps = step.steps("pretokenizers").map(preTokenizerOf);
      return (pieces) => steps.reduce((before, cut) => cut(before), pieces);
    }
    case "Split":
      return splitting(
        step.pattern(),
        step.oneOf("behavior", behaviors),
        step.flag("invert"),
      );
    case "Digits":
      return step.flag("individual_digits")
        ? splitting(/\p{N}/gu, "Isolated")
        : splitting(/\p{N}+/gu, "Isolated");
    case "Punctuation":
      return splitting(punctuation, step.oneOf("behavior", behaviors, "Isolated"));
    case "Whitespace":
      return splitting(words, "Removed", true);
    case "WhitespaceSplit":
      return splitting(/\p{White_Space}/gu, "Removed");
    case "CharDelimiterSplit": {
      const delimiter = step.character("delimiter");
      return splitting(new RegExp(RegExp.escape(delimiter), "gu"), "Removed");
    }
    case "Metaspace":
      return metaspace(step);
    case "ByteLevel":
      return byteLevel(step);
    default:
      throw step.unknown();
  }
}

function byteLevel(step: Step): PreTokenizer {
  const prefixed = step.flag("add_prefix_space");
  const cut = step.flag("use_regex", true)
    ? splitting(step.regex(gpt2Pattern), "Isolated")
    : (pieces: Piece[]) => pieces;
  return (pieces) => {
    const begun = !prefixed ? pieces : pieces.map(({ text, first }) => ({
      text: text.startsWith(" ") ? text : ` ${text}`,
      first,
    }));
    return cut(begun).map(({ text, first }) => ({ text: bytesAsCharacters(text), first }));
  };
}

/** SentencePiece's sign for a space, and where one is put in front. @throws {InvalidFile} */
export function readMetaspace(
  step: Step,
): { replacement: string; scheme: "always" | "first" | "never" } {
  const replacement = step.character("replacement");
  const scheme = step.oneOf("prepend_scheme", ["always", "first", "never"], "always");
  // Files of older versions say it a second time.
  if (!step.flag("add_prefix_space", true) && scheme !== "never") {
    throw step.error(`has add_prefix_space false, but the prepend_scheme ${scheme}`);
  }
  return { replacement, scheme };
}

function metaspace(step: Step): PreTokenizer {
  const { replacement, scheme } = readMetaspace(step);
  const split = step.flag("split", true)
    ? splitting(new RegExp(RegExp.escape(replacement), "gu"), "MergedWithNext")
    : (pieces: Piece[]) => pieces;
  return (pieces) =>
    split(pieces.map(({ text, first }) => {
      const replaced = text.replaceAll(" ", replacement);
      const wanted = scheme === "always" || (scheme === "first" && first);
      const prefix = wanted && !replaced.startsWith(replacement) ? replacement : "";
      return { text: prefix + replaced, first };
    }));
}

/** A range of a text, and whether the pattern matched it. */
interface Range {
  from: number;
  to: number;
  matched: boolean;
}

function splitting(pattern: RegExp, behavior: Behavior, invert = false): PreTokenizer {
  return (pieces) =>
    pieces.flatMap(({ text, first }) =>
      arrange(rangesOf(text, pattern, invert), behavior)
        .filter(({ from, to }) => from < to)
        .map(({ from, to }) => ({ text: text.slice(from, to), first: first && from === 0 }))
    );
}

/** The whole text as matches and what lies between them. */
function rangesOf(text: string, pattern: RegExp, invert: boolean): Range[] {
  const ranges: Range[] = [];
  let at = 0;
  for (const { from, to } of findAll(pattern, text)) {
    if (at < from) ranges.push({ from: at, to: from, matched: invert });
    ranges.push({ from, to, matched: !invert });
    at = to;
  }
  if (at < text.length) ranges.push({ from: at, to: text.length, matched: invert });
  return ranges;
}

/** What becomes of the matches. */
function arrange(ranges: Range[], behavior: Behavior): Range[] {
  switch (behavior) {
    case "Removed":
      return ranges.filter(({ matched }) => !matched);
    case "Isolated":
      return ranges;
    case "MergedWithPrevious":
      return joined(ranges, (before, range) => range.matched && !before.matched);
    case "MergedWithNext":
      // The first of several matches stays alone: only the last one meets the text that follows.
      return joined(ranges, (before, range) => before.matched && !range.matched);
    case "Contiguous":
      return joined(ranges, (before, range) => before.matched === range.matched);
  }
}

/** Neighbours joined where a rule says so; `before` is the neighbour as the pattern found it. */
function joined(ranges: Range[], joins: (before: Range, range: Range) => boolean): Range[] {
  const out: Range[] = [];
  ranges.forEach((range, i) => {
    const last = out.at(-1);
    if (last && joins(ranges[i - 1], range)) last.to = range.to;
    else out.push({ ...range });
  });
  return out;
}

/** GPT-2's alphabet: printable Latin-1 stands for its own byte, the other 68 bytes for U+0100 on. */
const characterOfByte: string[] = [];
/** The byte of each of those characters. */
export const byteOfCharacter = new Map<string, number>();
for (let byte = 0, next = 0x100; byte < 256; byte++) {
  const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) ||
    byte >= 0xae;
  characterOfByte[byte] = String.fromCodePoint(printable ? byte : next++);
  byteOfCharacter.set(characterOfByte[byte], byte);
}

const encoder = new TextEncoder();

function bytesAsCharacters(text: string): string {
  let out = "";
  for (const byte of encoder.encode(text)) out += characterOfByte[byte];
  return out;
}
