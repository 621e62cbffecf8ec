// One step of a tokenizer.json, `{"type": "Split", …}`, with its fields read and checked: a step that is
// damaged or not done here is refused by name, never left out.

import { ReplacePreTokenizer } from "@huggingface/tokenizers";
import { InvalidFile } from "../../errors.ts";
import { reason } from "../positioned_file.ts";

export type Json = Record<string, unknown>;

/** The parts of a tokenizer.json that are made of steps. */
export type Part = "normalizer" | "pre_tokenizer" | "post_processor" | "decoder";

/** Those of released tokenizers have up to 600. */
const maxPatternLength = 2048;
/** Parts hold lists of steps, a few levels deep at most. */
const maxDepth = 8;

export function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export class Step {
  readonly type: string;

  /** @throws {InvalidFile} when it is no step at all */
  constructor(
    private readonly json: unknown,
    readonly part: Part,
    private readonly where: string,
    private readonly depth = 0,
  ) {
    if (!isObject(json) || typeof json.type !== "string") {
      throw new InvalidFile(
        `Cannot use the tokenizer of ${where}: its ${part} has a step without a type: ${
          JSON.stringify(json)?.slice(0, 80)
        }`,
      );
    }
    this.type = json.type;
  }

  /** The error for a step that cannot be done as the file has it. */
  error(found: string): InvalidFile {
    return new InvalidFile(
      `Cannot use the tokenizer of ${this.where}: its ${this.part} step ${this.type} ${found}`,
    );
  }

  /** The error for a step of another type than those done. */
  unknown(): InvalidFile {
    return this.error("is not done here");
  }

  field(name: string): unknown {
    return (this.json as Json)[name];
  }

  flag(name: string, fallback?: boolean): boolean {
    const value = this.field(name) ?? fallback;
    if (typeof value !== "boolean") throw this.wrong(name, "true or false");
    return value;
  }

  text(name: string, fallback?: string): string {
    const value = this.field(name) ?? fallback;
    if (typeof value !== "string") throw this.wrong(name, "a text");
    return value;
  }

  character(name: string, fallback?: string): string {
    const value = this.text(name, fallback);
    if (Array.from(value).length !== 1) throw this.wrong(name, "one character");
    return value;
  }

  count(name: string, fallback?: number): number {
    const value = this.field(name) ?? fallback;
    if (!Number.isSafeInteger(value) || (value as number) < 0 || (value as number) > 2 ** 16) {
      throw this.wrong(name, "a small count");
    }
    return value as number;
  }

  oneOf<T extends string>(name: string, allowed: readonly T[], fallback?: T): T {
    const value = this.field(name) ?? fallback;
    if (!allowed.includes(value as T)) throw this.wrong(name, `one of ${allowed.join(", ")}`);
    return value as T;
  }

  /** The steps of a Sequence. */
  steps(name: string): Step[] {
    const value = this.field(name);
    if (!Array.isArray(value)) throw this.wrong(name, "a list of steps");
    if (this.depth >= maxDepth) throw this.error(`nests more than ${maxDepth} deep`);
    return value.map((json) => new Step(json, this.part, this.where, this.depth + 1));
  }

  /** What a step looks for: `{"String": …}` as it stands, `{"Regex": …}` in Oniguruma's terms. */
  pattern(): RegExp {
    const pattern = this.field("pattern");
    const { String: text, Regex: regex } = isObject(pattern) ? pattern : {};
    if (typeof text === "string" && text !== "") {
      return this.tried(text, () => new RegExp(RegExp.escape(text), "gu"));
    }
    if (typeof regex === "string" && regex !== "") return this.regex(regex);
    throw this.wrong("pattern", '{"String": …} or {"Regex": …}');
  }

  /** A regular expression in Oniguruma's terms. */
  regex(source: string): RegExp {
    return this.tried(source, () => {
      const pattern = { Regex: source };
      return new ReplacePreTokenizer({ type: "Replace", pattern, content: "" }).pattern!;
    });
  }

  /** A pattern that was made to match, since an engine finds some too large at the first match only. */
  private tried(source: string, make: () => RegExp): RegExp {
    if (source.length > maxPatternLength) {
      throw this.error(`has a pattern of ${source.length} characters, at most ${maxPatternLength}`);
    }
    try {
      const pattern = make();
      // Texts of narrow and of wide characters are matched by different code.
      for (const text of ["a", "\u3042"]) text.search(pattern);
      return pattern;
    } catch (error) {
      throw this.error(`has a pattern that cannot be read: ${reason(error).slice(0, 200)}`);
    }
  }

  private wrong(name: string, wanted: string): InvalidFile {
    const found = JSON.stringify(this.field(name))?.slice(0, 80) ?? "missing";
    return this.error(`has ${name} ${found}, wanted ${wanted}`);
  }
}

/** Where a pattern is found, one after the other; an empty match beside another is none, as in Oniguruma. */
export function* findAll(pattern: RegExp, text: string): Generator<{ from: number; to: number }> {
  let end = -1;
  for (const { index, 0: match } of text.matchAll(pattern)) {
    if (match === "" && index === end) continue;
    end = index + match.length;
    yield { from: index, to: end };
  }
}

/** `text` with every match replaced by `content` as it stands. */
export function replaceAll(text: string, pattern: RegExp, content: string): string {
  let out = "";
  let at = 0;
  for (const { from, to } of findAll(pattern, text)) {
    out += text.slice(at, from) + content;
    at = to;
  }
  return out + text.slice(at);
}
