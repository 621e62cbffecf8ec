// Regular expressions from users, run by RE2's automata (re2js) in time linear in the text: a
// backtracking engine can be made to take hours by one pattern, and nothing can stop it. The check of a
// request and the run compile by the same function, so what was accepted runs. The dialect is RE2's
// (github.com/google/re2/wiki/Syntax): of JavaScript's it lacks look-around, backreferences, \u, \c, [^]
// and escapes of letters that mean nothing; `.` leaves out \n only, and \s is [\t\n\f\r ].
// RE2 alone would take `(?:…){1000}` of a long group, a second of compiling, and re2js has no limit to
// set, so the size of the program is bounded before.

import { RE2JS, RE2JSException } from "re2js";
import { InvalidRequest } from "../errors.ts";

export interface Pattern {
  /** Whether the pattern matches anywhere in the text. */
  matches(text: string): boolean;
}

export const maxPatternLength = 1000;
/** A text of 100,000 characters takes up to a second or two at this size, most patterns a millisecond. */
const maxSize = 1000;
/** A Unicode class is a list of hundreds of ranges. */
const unicodeClassSize = 25;

/**
 * Compiles a user's pattern.
 * @throws {InvalidRequest} naming `param` when it is no pattern of RE2 or is too large.
 */
export function compilePattern(source: string, param: string | null = null): Pattern {
  const fail = (what: string) =>
    new InvalidRequest(
      `Cannot use the pattern ${JSON.stringify(source.slice(0, 100))}: ${what}.`,
      param,
      "invalid_pattern",
    );
  const size = source.length > maxPatternLength ? source.length : patternSize(source);
  if (size > maxSize) {
    throw fail(
      `with its repeats written out it is ${size} characters and classes long, the limit is ${maxSize}`,
    );
  }
  try {
    const compiled = RE2JS.compile(source);
    return { matches: (text) => compiled.test(text) };
  } catch (error) {
    if (!(error instanceof RE2JSException)) throw error;
    const problem = error.message.replace("error parsing regexp: ", "").replaceAll("`", '"');
    throw fail(`${problem}${hint(problem)}. Patterns are written as for RE2`);
  }
}

/** What users of JavaScript's syntax wanted, and what there is. */
function hint(problem: string): string {
  if (/"\(\?<?[=!]/.test(problem)) return "; there is no look-ahead or look-behind";
  if (/"\\[1-9k]"/.test(problem)) return "; there are no backreferences";
  if (problem.includes('"\\u"')) return "; write a character by its code as \\x{1F600}";
  if (problem.includes('"[^]"')) return "; write any character as [\\s\\S]";
  if (problem.includes('"[^]')) return "; ] after [^ is a member of the class";
  if (problem.includes("repeat count")) {
    return "; a repeat counts to 1000 at most, nested ones together";
  }
  return "";
}

/**
 * About how many characters and classes a pattern has once its counted repeats are written out, never
 * less than its program needs but for a constant factor.
 */
function patternSize(source: string): number {
  // Of each open group: what came before its last atom, and that atom, which a repeat multiplies.
  const groups = [{ before: 0, last: 0 }];
  for (let at = 0; at < source.length;) {
    const group = groups.at(-1)!;
    const rest = source.slice(at);
    const [count, low, high] = /^\{(\d+)(?:,(\d*))?\}/.exec(rest) ?? [];
    if (count !== undefined) {
      group.last *= Math.max(1, high ? Number(high) : Number(low) + (high === "" ? 1 : 0));
      at += count.length;
    } else if (source[at] === "(") {
      groups.push({ before: 0, last: 1 });
      at++;
    } else if (source[at] === ")" && groups.length > 1) {
      groups.pop();
      const outer = groups.at(-1)!;
      outer.before += outer.last;
      outer.last = group.before + group.last + 1;
      at++;
    } else {
      const [length, size] = atom(rest);
      group.before += group.last;
      group.last = size;
      at += length;
    }
  }
  return groups.reduce((sum, { before, last }) => sum + before + last, 0);
}

/** Characters of the pattern that its first atom takes, and the atom's size. */
function atom(rest: string): [length: number, size: number] {
  if (rest[0] === "[") {
    const end = classEnd(rest);
    return [end, 1 + unicodeClassSize * countUnicodeClasses(rest.slice(0, end))];
  }
  if (rest[0] !== "\\") return [1, 1];
  if (rest[1] === "Q") {
    const end = rest.indexOf("\\E");
    const length = end < 0 ? rest.length : end + 2;
    return [length, length];
  }
  const [braced] = /^\\[xpP]\{[^}]*\}/.exec(rest) ?? [];
  return [braced?.length ?? 2, 1 + unicodeClassSize * countUnicodeClasses(rest.slice(0, 2))];
}

/** Where a class that begins `rest` ends: a first ] is a member, and so is what \ and [: :] hide. */
function classEnd(rest: string): number {
  let at = rest[1] === "^" ? 2 : 1;
  for (let first = true; at < rest.length; first = false) {
    if (rest[at] === "]" && !first) return at + 1;
    const named = rest.startsWith("[:", at) ? rest.indexOf(":]", at + 2) : -1;
    at = named >= 0 ? named + 2 : at + (rest[at] === "\\" ? 2 : 1);
  }
  return rest.length;
}

function countUnicodeClasses(text: string): number {
  return text.split(/\\[pP]/).length - 1;
}
