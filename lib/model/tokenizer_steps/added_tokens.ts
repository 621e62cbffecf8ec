// Tokens beside a model's own vocabulary, e.g. `<|im_end|>`, found in a text as Hugging Face's `tokenizers` does
// (rust, added_vocabulary.rs): first those that stand in the text as it is, then, in what is left and normalised,
// the others; of several at one place the longest. `single_word` wants no letter beside it, `lstrip` and
// `rstrip` take the white space beside it along.

import { InvalidFile } from "../../errors.ts";
import { isObject } from "./step.ts";

export interface AddedToken {
  id: number;
  content: string;
  special: boolean;
  normalized: boolean;
  singleWord: boolean;
  lstrip: boolean;
  rstrip: boolean;
}

/** Reads one entry of `added_tokens`; its id is not checked. @throws {InvalidFile} when it is damaged */
export function readAddedToken(entry: unknown, where: string): AddedToken {
  if (!isObject(entry) || typeof entry.content !== "string" || entry.content === "") {
    throw new InvalidFile(`Cannot use the tokenizer of ${where}: an added token has no content`);
  }
  const flag = (name: string, fallback: boolean) => {
    const value = entry[name] ?? fallback;
    if (typeof value === "boolean") return value;
    throw new InvalidFile(
      `Cannot use the tokenizer of ${where}: the added token ${
        JSON.stringify(entry.content)
      } has ${name} ${JSON.stringify(value)}, wanted true or false`,
    );
  };
  const special = flag("special", false);
  return {
    id: entry.id as number,
    content: entry.content,
    special,
    normalized: flag("normalized", !special),
    singleWord: flag("single_word", false),
    lstrip: flag("lstrip", false),
    rstrip: flag("rstrip", false),
  };
}

/** A part of a text: a token that was found, or what lies between. */
export type Section = { token: AddedToken } | { text: string; from: number };

const wordBefore = /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\u200c\u200d]$/u;
const wordAfter = /^[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\u200c\u200d]/u;
const isSpace = /^\p{White_Space}$/u;

/** Characters of all contents; the pattern engine ends the process somewhere beyond ten times as many. */
const maxLength = 2 ** 22;

/** Finds some tokens in texts, by their contents. */
export class AddedTokenFinder {
  private readonly pattern: RegExp | null;
  private readonly byContent: ReadonlyMap<string, AddedToken>;

  /**
   * @param contentOf what is looked for: a token's content, or that normalised
   * @throws {InvalidFile} when all of it is more than one pattern takes
   */
  constructor(
    tokens: readonly AddedToken[],
    contentOf: (token: AddedToken) => string,
    where: string,
  ) {
    this.byContent = new Map(
      tokens.map((token) => [contentOf(token), token] as const).filter(([text]) => text !== ""),
    );
    const length = [...this.byContent.keys()].reduce((sum, content) => sum + content.length, 0);
    if (length > maxLength) {
      throw new InvalidFile(
        `Cannot use the tokenizer of ${where}: its added tokens have ${length} characters, at most ${maxLength} are looked for`,
      );
    }
    // An alternation takes the first that fits, so the longest come first.
    const alternatives = [...this.byContent.keys()].sort((a, b) => b.length - a.length)
      .map((content) => RegExp.escape(content));
    this.pattern = alternatives.length === 0 ? null : new RegExp(alternatives.join("|"), "gu");
  }

  /** The parts of a text, in order, without empty ones. */
  split(text: string): Section[] {
    if (!this.pattern) return text === "" ? [] : [{ text, from: 0 }];
    const parts: Section[] = [];
    let done = 0;
    const pass = (to: number) => {
      if (done < to) parts.push({ text: text.slice(done, to), from: done });
    };
    for (const { 0: content, index } of text.matchAll(this.pattern)) {
      const token = this.byContent.get(content)!;
      let [from, to] = [index, index + content.length];
      if (token.singleWord && isInWord(text, from, to)) continue;
      while (token.lstrip && from > done && isSpace.test(text[from - 1])) from--;
      while (token.rstrip && to < text.length && isSpace.test(text[to])) to++;
      pass(from);
      parts.push({ token });
      done = to;
    }
    pass(text.length);
    return parts;
  }
}

/** Whether letters, digits or `_` stand beside a range. */
function isInWord(text: string, from: number, to: number): boolean {
  return wordBefore.test(text.slice(Math.max(0, from - 2), from)) ||
    wordAfter.test(text.slice(to, to + 2));
}
