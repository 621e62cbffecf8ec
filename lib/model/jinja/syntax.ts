// From the source of a template to the tree that interpreter.ts walks. @huggingface/jinja cuts and parses it;
// here is what Python's Jinja does otherwise before and after: line ends, white space around blocks, chains of
// comparisons, and the text of a printed value. The shapes of the library's nodes are written down here too.

import { parse, tokenize } from "@huggingface/jinja";

export type Program = ReturnType<typeof parse>;
export type Node = Program["body"][number];

export interface Identifier extends Node {
  value: string;
}
export interface Call extends Node {
  callee: Node;
  args: Node[];
}
export interface Member extends Node {
  object: Node;
  property: Node;
  computed: boolean;
}
export interface Binary extends Node {
  operator: { value: string };
  left: Node;
  right: Node;
}
export interface Filtered extends Node {
  operand: Node;
  filter: Identifier | Call;
}
export interface Tested extends Node {
  operand: Node;
  negate: boolean;
  test: Identifier;
}
export interface Assignment extends Node {
  value: Node | null;
  body: Node[];
}
export interface Branch extends Node {
  test: Node;
  body: Node[];
  alternate: Node[];
}
export interface Loop extends Node {
  loopvar: Identifier | (Node & { value: Identifier[] });
  iterable: Node & { lhs: Node; test: Node };
  body: Node[];
  defaultBlock: Node[];
}

/** Nodes that the library has classes for but does not export. */
const sampleFiltered = parse(tokenize("{{ x|string }}")).body[0] as Filtered;
export const sampleCall = parse(tokenize("{{ f() }}")).body[0] as Call;
export const like = <T extends Node>(sample: T, fields: Partial<T>): T =>
  Object.assign(Object.create(Object.getPrototypeOf(sample)), sample, fields);
/** A variable that no template can spell. */
export const hiddenName = "held value";
export const hidden = like(sampleCall.callee as Identifier, { value: hiddenName });

/** What writes no text by itself, or writes it as it is. */
const statements = new Set(
  "Set If For Macro CallStatement FilterStatement Break Continue Comment StringLiteral".split(" "),
);

type Token = ReturnType<typeof tokenize>[number];

/** Those of released models have up to 30,000 characters. */
const maxSourceLength = 2 ** 17;
/** The library's lexer takes time in the square of a run of white space. */
const longSpace = /\s{400}/;

/**
 * A template ready to be rendered.
 * @throws {Error} when it does not parse or is far longer than any
 */
export function parseTemplate(source: string): Program {
  if (source.length > maxSourceLength) {
    throw new Error(`it has ${source.length} characters, at most ${maxSourceLength} are read`);
  }
  if (longSpace.test(source)) throw new Error("it has 400 spaces in a row");
  // Jinja reads every kind of line end as "\n". Transformers' tag around what the assistant says changes no
  // text, but is a block with the white space of one; the library would take it out before it looks.
  const text = source.replace(/\r\n?/g, "\n").replace(
    /(\{%[-+]?\s*)(end)?generation(\s*[-+]?%\})/g,
    (_, begin, end, rest) => begin + (end ? "endif" : "if true") + rest,
  );
  try {
    const tokens = tokenize(text);
    trimBlocks(tokens);
    refuseChains(tokens);
    const program = parse(tokens);
    printAsPython(program.body);
    return program;
  } catch (error) {
    if (error instanceof TypeError) throw new SyntaxError("it ends in the middle of a tag");
    if (error instanceof RangeError) throw new SyntaxError("it nests too deep");
    throw error;
  }
}

/**
 * Jinja's trim_blocks and lstrip_blocks: a newline after a block goes, and what white space stands before one
 * on its line. The library's own search the source, where text such as "100%}" looks like a tag.
 */
function trimBlocks(tokens: Token[]): void {
  const isBlock = (type?: string) =>
    type === "OpenStatement" || type === "CloseStatement" || type === "Comment";
  tokens.forEach((token, i) => {
    if (token.type !== "Text") return;
    let beginsLine = i === 0;
    if (isBlock(tokens[i - 1]?.type) && token.value.startsWith("\n")) {
      token.value = token.value.slice(1);
      beginsLine = true;
    }
    if (!isBlock(tokens[i + 1]?.type)) return;
    const line = token.value.lastIndexOf("\n") + 1;
    if ((line > 0 || beginsLine) && token.value.slice(line).trim() === "") {
      token.value = token.value.slice(0, line);
    }
  });
}

/**
 * `a < b < c` means `a < b and b < c`; the library reads `(a < b) < c`, and its tree does not tell the two
 * apart.
 * @throws {Error} at the second comparison that nothing separates from the first
 */
function refuseChains(tokens: Token[]): void {
  const separators = new Set(["and", "or", "if", "elif", "else", "not"]);
  // Whether there was a comparison, for each bracket that is open.
  let compared = [false];
  tokens.forEach(({ type, value }, i) => {
    if (type === "OpenStatement" || type === "OpenExpression") compared = [false];
    else if (type.startsWith("Open")) compared.push(false);
    else if (type.startsWith("Close")) compared.pop();
    else if (type === "ComparisonBinaryOperator" || (type === "Identifier" && value === "in")) {
      if (compared.at(-1)) throw new Error("a chain of comparisons is not done here");
      compared[compared.length - 1] = true;
    } else if (type === "Comma" || type === "Colon" || type === "Equals") {
      compared[compared.length - 1] = false;
    } else if (type === "Identifier" && separators.has(value) && tokens[i + 1]?.value !== "in") {
      compared[compared.length - 1] = false;
    }
  });
}

/** Has every printed expression go through the filter `string`, which writes None, True and lists as Python does. */
function printAsPython(body: Node[]): void {
  body.forEach((node, i) => {
    if (!statements.has(node.type)) {
      body[i] = like(sampleFiltered, { operand: node });
      return;
    }
    for (const field of ["body", "alternate", "defaultBlock"] as const) {
      const inner = (node as Node & Partial<Record<typeof field, Node[]>>)[field];
      if (inner) printAsPython(inner);
    }
  });
}
