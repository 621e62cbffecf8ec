import fc from "fast-check";
import { InvalidRequest } from "../../../lib/errors.ts";
import { compilePattern } from "../../../lib/train/pattern.ts";
import { assert, assertEquals, assertThrows } from "../../asserts.ts";

const texts = ["", "a", "ab", "ba", "aab", "a\nb", "A1_ é", "😀b", "-]", "  b a", "aaaa", "3.14"];

for (
  const source of [
    "a",
    "^a",
    "b$",
    "^$",
    "^a.b$",
    "^[^]*$",
    "[^a]b",
    "[\\s\\S]{3}",
    "^\\w+\\s\\S",
    "(?:ab|b)a?$",
    "(a|b)*b$",
    "(?<name>a+)b",
    "^a{2,3}b?$",
    "^a{2}$",
    "^a{3,}$",
    "a{0}b",
    "\\bb\\b",
    "a\\B",
    "[\\]\\-]",
    "[a-c\\d]\\.",
    "[^\\W]",
    "[\\D]$",
    "\\u0061|\\x62",
    "\\u{1F600}.",
    "^.b",
    "\\n",
    "(a*)*b",
    "(?:)|c",
    "a+?b",
    "[^\\D\\n]",
  ]
) {
  Deno.test(`pattern: ${source} matches what RegExp matches`, () => {
    const pattern = compilePattern(source), wanted = new RegExp(source, "u");
    for (const text of texts) {
      assertEquals(pattern.matches(text), wanted.test(text), JSON.stringify(text));
    }
  });
}

Deno.test("pattern: any small pattern agrees with RegExp", () => {
  const atom = fc.constantFrom("a", "b", ".", "[ab]", "[^a]", "\\b", "^", "$", "\\w");
  const { source } = fc.letrec<{ source: string }>((tie) => ({
    source: fc.oneof(
      { depthSize: "small" },
      atom,
      fc.tuple(tie("source"), tie("source")).map(([x, y]) => x + y),
      fc.tuple(tie("source"), tie("source")).map(([x, y]) => `(?:${x}|${y})`),
      fc.tuple(tie("source"), fc.constantFrom("*", "+", "?", "{2}", "{1,2}", "{2,}"))
        .map(([x, count]) => `(?:${x})${count}`),
    ),
  }));
  const text = fc.array(fc.constantFrom("a", "b", "c", "\n", "😀"), { maxLength: 8 })
    .map((characters) => characters.join(""));
  fc.assert(
    fc.property(source, fc.array(text, { minLength: 3, maxLength: 3 }), (source, texts) => {
      const pattern = compilePattern(source), wanted = new RegExp(source, "u");
      for (const text of texts) assertEquals(pattern.matches(text), wanted.test(text));
    }),
    { numRuns: 500 },
  );
});

for (
  const [source, message] of [
    ["(", /Unterminated group/],
    ["a{2,1}", /numbers out of order/],
    ["(a)\\1", /backreferences are not supported/],
    ["(?<x>a)\\k<x>", /backreferences are not supported/],
    ["(?=a)", /"\(\?=a" is not supported/],
    ["(?<!a)b", /is not supported/],
    ["\\p{L}", /is not supported/],
    ["a{100000}", /too large/],
    ["((a{100}){100}){100}", /too large/],
    ["(((){4000}){4000}){4000}", /too large/],
    ["(".repeat(400) + ")".repeat(400), /nested/],
  ] as const
) {
  Deno.test(`pattern: refuses ${source.slice(0, 30)}`, () => {
    assertThrows(
      () => compilePattern(source, "rewards[0].pattern"),
      (error) =>
        error instanceof InvalidRequest && error.param === "rewards[0].pattern" &&
        message.test(error.message),
    );
  });
}

Deno.test("pattern: what would keep a backtracking engine busy for years is answered", () => {
  const text = "a".repeat(3000);
  for (const source of ["(a+)+b", "(a|a)*b", "(a*)*(a*)*b", ".*.*.*.*b", "(a{1,30}){1,30}b"]) {
    assert(!compilePattern(source).matches(text));
  }
});
