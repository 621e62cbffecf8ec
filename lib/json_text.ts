// JSON from outside, parsed only when its brackets nest no deeper than a limit: `JSON.parse` takes
// time in the square of the nesting here (3.8 MiB of "[" took 2.9 s, 30 MiB 133 s), and what reads the
// value afterwards often calls itself once for each level. The scan before it is linear.

/** What any file or request of ours needs, several times over. */
export const maxJsonDepth = 64;

const quote = 0x22, backslash = 0x5c;

export interface JsonBounds {
  /** Open brackets at a time. */
  depth: number;
  /** Brackets and commas in all: about as many as there are values. */
  values: number;
}

/** The bound that the brackets and commas outside of strings pass first; null when they pass none. */
export function passedBound(text: string, bounds: JsonBounds): keyof JsonBounds | null {
  let depth = 0, values = 0;
  for (let at = 0; at < text.length; at++) {
    switch (text.charCodeAt(at)) {
      case quote:
        for (at++; at < text.length && text.charCodeAt(at) !== quote; at++) {
          if (text.charCodeAt(at) === backslash) at++;
        }
        break;
      case 0x2c:
        if (++values > bounds.values) return "values";
        break;
      case 0x5b:
      case 0x7b:
        if (++depth > bounds.depth) return "depth";
        if (++values > bounds.values) return "values";
        break;
      case 0x5d:
      case 0x7d:
        depth--;
    }
  }
  return null;
}

/** Whether `[` and `{` outside of strings are open more than `limit` deep anywhere in the text. */
export function nestsDeeperThan(text: string, limit: number): boolean {
  return passedBound(text, { depth: limit, values: Infinity }) !== null;
}

/** The value of a JSON text. @throws {SyntaxError} when it is no JSON or nests too deep. */
export function parseJson(text: string, maxDepth = maxJsonDepth): unknown {
  if (nestsDeeperThan(text, maxDepth)) {
    throw new SyntaxError(`its brackets nest more than ${maxDepth} deep`);
  }
  return JSON.parse(text);
}
