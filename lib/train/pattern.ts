// Regular expressions from users, tested in time linear in the text: a Thompson automaton that follows
// all alternatives at once (Thompson 1968; Cox 2007), since a backtracking engine can be made to take
// hours by one pattern and there is no way to stop it. It answers only whether the pattern matches
// somewhere, as JavaScript's RegExp with the flag u would. Left out: backreferences and look-around,
// which no automaton can do, and captures.

import { InvalidRequest } from "../errors.ts";

export interface Pattern {
  /** Whether the pattern matches anywhere in the text. */
  matches(text: string): boolean;
}

/** A set of code points: ranges, both ends included. */
interface CharacterSet {
  ranges: [number, number][];
  negated: boolean;
}

type Node =
  | { kind: "set"; set: CharacterSet }
  | { kind: "assert"; holds: (before: number, after: number) => boolean }
  | { kind: "sequence"; parts: Node[] }
  | { kind: "choice"; options: Node[] }
  | { kind: "repeat"; part: Node; min: number; max: number };

type State =
  | { kind: "set"; set: CharacterSet; next: number }
  | { kind: "assert"; holds: (before: number, after: number) => boolean; next: number }
  | { kind: "split"; next: number[] }
  | { kind: "match" };

/** A text times the states is the work at most: 10,000 characters take 50 million small steps. */
const maxStates = 5000;
const maxDepth = 100;
const none = -1;

const digits: CharacterSet = { ranges: [[48, 57]], negated: false };
const word: CharacterSet = { ranges: [[48, 57], [65, 90], [95, 95], [97, 122]], negated: false };
// What JavaScript's \s takes.
const space: CharacterSet = {
  ranges: [
    [9, 13],
    [32, 32],
    [160, 160],
    [0x1680, 0x1680],
    [0x2000, 0x200a],
    [0x2028, 0x2029],
    [0x202f, 0x202f],
    [0x205f, 0x205f],
    [0x3000, 0x3000],
    [0xfeff, 0xfeff],
  ],
  negated: false,
};
const lineEnds: [number, number][] = [[10, 10], [13, 13], [0x2028, 0x2029]];
const classes: Record<string, CharacterSet> = { d: digits, w: word, s: space };
const controls: Record<string, number> = { n: 10, r: 13, t: 9, f: 12, v: 11, 0: 0 };

/**
 * Compiles a user's pattern.
 * @throws {InvalidRequest} naming `param` when it is no pattern, needs backtracking or is too large.
 */
export function compilePattern(source: string, param: string | null = null): Pattern {
  const fail = (what: string) =>
    new InvalidRequest(`Cannot use the pattern ${JSON.stringify(source)}: ${what}`, param);
  try {
    // JavaScript's own parser says what is wrong in words that users can look up.
    new RegExp(source, "u");
  } catch (error) {
    throw fail((error as Error).message);
  }
  const states = compile(parse(source, fail), fail);
  return { matches: (text) => run(states, text) };
}

// --- text to tree ---

function parse(source: string, fail: (what: string) => Error): Node {
  const characters = [...source];
  let at = 0, depth = 0;

  function choice(): Node {
    if (++depth > maxDepth) throw fail(`its groups are nested more than ${maxDepth} deep`);
    const options = [sequence()];
    while (characters[at] === "|") {
      at++;
      options.push(sequence());
    }
    depth--;
    return options.length === 1 ? options[0] : { kind: "choice", options };
  }

  function sequence(): Node {
    const parts: Node[] = [];
    while (at < characters.length && characters[at] !== "|" && characters[at] !== ")") {
      parts.push(repeated(atom()));
    }
    return { kind: "sequence", parts };
  }

  function repeated(part: Node): Node {
    const [min, max] = count();
    if (min === 1 && max === 1) return part;
    // Lazy or greedy: the same texts match.
    if (characters[at] === "?") at++;
    return { kind: "repeat", part, min, max };
  }

  function count(): [number, number] {
    const character = characters[at];
    if (character === "*" || character === "+" || character === "?") {
      at++;
      return [character === "+" ? 1 : 0, character === "?" ? 1 : Infinity];
    }
    if (character !== "{") return [1, 1];
    const close = characters.indexOf("}", at);
    const [min, max] = characters.slice(at + 1, close).join("").split(",");
    at = close + 1;
    return [Number(min), max === undefined ? Number(min) : max === "" ? Infinity : Number(max)];
  }

  function atom(): Node {
    const character = characters[at++];
    if (character === "(") return group();
    if (character === "[") return { kind: "set", set: characterClass() };
    if (character === ".") return { kind: "set", set: { ranges: lineEnds, negated: true } };
    if (character === "^") return { kind: "assert", holds: (before) => before === none };
    if (character === "$") return { kind: "assert", holds: (_, after) => after === none };
    if (character !== "\\") return { kind: "set", set: single(character.codePointAt(0)!) };
    if (characters[at] === "b" || characters[at] === "B") {
      const wanted = characters[at++] === "b";
      return {
        kind: "assert",
        holds: (before, after) => (contains(word, before) !== contains(word, after)) === wanted,
      };
    }
    const escaped = escape();
    return { kind: "set", set: typeof escaped === "number" ? single(escaped) : escaped };
  }

  function group(): Node {
    if (characters[at] === "?") {
      const kind = characters.slice(at, at + 3).join("");
      if (kind.startsWith("?:")) at += 2;
      else if (kind.startsWith("?<") && kind !== "?<=" && kind !== "?<!") {
        at = characters.indexOf(">", at) + 1;
      } else throw fail(`"(${kind}" is not supported: look-around and modifiers are not`);
    }
    const inner = choice();
    at++;
    return inner;
  }

  function characterClass(): CharacterSet {
    const negated = characters[at] === "^";
    if (negated) at++;
    const ranges: [number, number][] = [];
    while (characters[at] !== "]") {
      const from = classMember();
      if (typeof from !== "number") ranges.push(...positive(from));
      else if (characters[at] === "-" && characters[at + 1] !== "]") {
        at++;
        ranges.push([from, classMember() as number]);
      } else ranges.push([from, from]);
    }
    at++;
    return { ranges, negated };
  }

  function classMember(): number | CharacterSet {
    const character = characters[at++];
    if (character !== "\\") return character.codePointAt(0)!;
    if (characters[at] === "b") {
      at++;
      return 8;
    }
    return escape();
  }

  /** What follows a backslash: a character, or a class. */
  function escape(): number | CharacterSet {
    const character = characters[at++];
    const known = classes[character.toLowerCase()];
    if (known) return character === character.toLowerCase() ? known : { ...known, negated: true };
    if (character in controls) return controls[character];
    if (/[1-9k]/.test(character)) throw fail("backreferences are not supported");
    if (character === "p" || character === "P") throw fail(`"\\${character}" is not supported`);
    if (character === "c") return characters[at++].charCodeAt(0) % 32;
    if (character === "x" || character === "u") return hexadecimal(character);
    return character.codePointAt(0)!;
  }

  function hexadecimal(kind: "x" | "u"): number {
    if (characters[at] === "{") {
      const close = characters.indexOf("}", at);
      const value = parseInt(characters.slice(at + 1, close).join(""), 16);
      at = close + 1;
      return value;
    }
    const length = kind === "x" ? 2 : 4;
    const value = parseInt(characters.slice(at, at += length).join(""), 16);
    // Half of a surrogate pair would need the other half: write such characters as they are.
    if (value >= 0xd800 && value < 0xe000) throw fail("surrogates are written as \\u{…}");
    return value;
  }

  return choice();
}

function single(codePoint: number): CharacterSet {
  return { ranges: [[codePoint, codePoint]], negated: false };
}

/** The ranges of a set, without its negation. */
function positive({ ranges, negated }: CharacterSet): [number, number][] {
  if (!negated) return ranges;
  const gaps: [number, number][] = [];
  let from = 0;
  for (const [start, end] of ranges) {
    if (start > from) gaps.push([from, start - 1]);
    from = end + 1;
  }
  gaps.push([from, 0x10ffff]);
  return gaps;
}

function contains({ ranges, negated }: CharacterSet, codePoint: number): boolean {
  if (codePoint === none) return false;
  for (const [start, end] of ranges) {
    if (codePoint >= start && codePoint <= end) return !negated;
  }
  return negated;
}

// --- tree to automaton ---

function compile(tree: Node, fail: (what: string) => Error): State[] {
  const states: State[] = [{ kind: "match" }];
  let steps = 0;
  const add = (state: State) => {
    if (states.length >= maxStates) throw fail("its counted repeats make it too large");
    return states.push(state) - 1;
  };
  /** Builds a node backwards: gives the state to enter it by, from which `next` follows. */
  function build(node: Node, next: number): number {
    // Repeats of nothing add no state, but nested they can be as many.
    if (++steps > 4 * maxStates) throw fail("its counted repeats make it too large");
    switch (node.kind) {
      case "set":
      case "assert":
        return add({ ...node, next });
      case "sequence":
        return node.parts.reduceRight((following, part) => build(part, following), next);
      case "choice":
        return add({ kind: "split", next: node.options.map((option) => build(option, next)) });
      case "repeat": {
        const { part, min, max } = node;
        if (min > maxStates || (max !== Infinity && max > maxStates)) {
          throw fail("its counted repeats make it too large");
        }
        let entry = next;
        if (max === Infinity) {
          const loop: State = { kind: "split", next: [next] };
          entry = add(loop);
          loop.next.push(build(part, entry));
        }
        for (let i = max === Infinity ? min : max; i > 0; i--) {
          const through = build(part, entry);
          entry = i > min ? add({ kind: "split", next: [through, next] }) : through;
        }
        return entry;
      }
    }
  }
  const start = build(tree, 0);
  states.push({ kind: "split", next: [start] });
  return states;
}

/** Follows all states at once; the last state of the list is the start. */
function run(states: State[], text: string): boolean {
  const codePoints = Array.from(text, (character) => character.codePointAt(0)!);
  const reachedAt = new Int32Array(states.length).fill(-1);
  let current: number[] = [];
  for (let at = 0; at <= codePoints.length; at++) {
    const before = at > 0 ? codePoints[at - 1] : none;
    const after = at < codePoints.length ? codePoints[at] : none;
    const following: number[] = [];
    // A match may begin anywhere, so the start is entered at every place.
    const open = [...current, states.length - 1];
    while (open.length > 0) {
      const index = open.pop()!;
      if (reachedAt[index] === at) continue;
      reachedAt[index] = at;
      const state = states[index];
      if (state.kind === "match") return true;
      if (state.kind === "split") open.push(...state.next);
      else if (state.kind === "assert") {
        if (state.holds(before, after)) open.push(state.next);
      } else if (contains(state.set, after)) following.push(state.next);
    }
    current = following;
  }
  return false;
}
