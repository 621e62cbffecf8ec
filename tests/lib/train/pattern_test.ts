import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { RE2JS } from "re2js";
import { InvalidRequest } from "../../../lib/errors.ts";
import { compilePattern, maxPatternLength } from "../../../lib/train/pattern.ts";
import { assertThrows } from "../../asserts.ts";

const texts = ["", "a", "ab", "ba", "aab", "a\nb", "A1_ é", "😀b", "-]", "  b a", "aaaa", "3.14"];

for (
  const source of [
    "a",
    "^a",
    "b$",
    "^$",
    "^a.b$",
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
    "\\x61|\\x62",
    "^.b",
    "\\n",
    "(a*)*b",
    "(?:)|c",
    "a+?b",
    "[^\\D\\n]",
    "\\p{L}\\pN",
    "\\/|\\$",
  ]
) {
  Deno.test(`pattern: ${source} matches what RegExp matches`, () => {
    const pattern = compilePattern(source);
    const wanted = new RegExp(source.replace("\\pN", "\\p{N}"), "u");
    for (const text of texts) {
      assertEquals(pattern.matches(text), wanted.test(text), JSON.stringify(text));
    }
  });
}

/** Patterns that RE2 and JavaScript read alike, by their depth. */
const { source } = fc.letrec<{ source: string }>((tie) => ({
  source: fc.oneof(
    { depthSize: "small" },
    fc.constantFrom("a", "b", ".", "[ab]", "[^a]", "\\b", "^", "$", "\\w"),
    fc.tuple(tie("source"), tie("source")).map(([x, y]) => x + y),
    fc.tuple(tie("source"), tie("source")).map(([x, y]) => `(?:${x}|${y})`),
    fc.tuple(tie("source"), fc.constantFrom("*", "+", "?", "{2}", "{1,2}", "{2,}"))
      .map(([x, count]) => `(?:${x})${count}`),
  ),
}));

Deno.test("pattern: any small pattern agrees with RegExp", () => {
  const text = fc.array(fc.constantFrom("a", "b", "c", "\n", "😀"), { maxLength: 8 })
    .map((characters) => characters.join(""));
  fc.assert(
    fc.property(source, fc.array(text, { minLength: 3, maxLength: 3 }), (source, texts) => {
      const pattern = compilePattern(source), wanted = new RegExp(source, "u");
      for (const text of texts) assertEquals(pattern.matches(text), wanted.test(text));
    }),
    { numRuns: 1000 },
  );
});

for (
  const [source, message] of [
    ["(", /missing closing \)/],
    ["a{2,1}", /repeat count/],
    ["(a)\\1", /there are no backreferences.*written as for RE2\.$/],
    ["(?<x>a)\\k<x>", /there are no backreferences/],
    ["a(?=b)", /there is no look-ahead/],
    ["a(?!b)", /there is no look-ahead/],
    ["(?<=a)b", /look-behind/],
    ["(?<!a)b", /look-behind/],
    ["\\u0061", /as \\x\{1F600\}/],
    ["[^]", /as \[\\s\\S\]/],
    ["\\p{Script=Greek}", /invalid character class range/],
    ["a{1001}", /repeats/],
    ["((a{100}){100}){100}", /repeats/],
    ["(".repeat(999), /missing closing/],
    ["(".repeat(499) + "b" + ")".repeat(499) + "a{10}", /1004 .*the limit is 1000/],
    ["a".repeat(maxPatternLength + 1), /1001 .*the limit is 1000/],
  ] as const
) {
  Deno.test(`pattern: refuses ${source.slice(0, 30)}`, () => {
    assertThrows(
      () => compilePattern(source, "rewards[0].pattern"),
      (error) => {
        assert(error instanceof InvalidRequest);
        assertEquals([error.param, error.code], ["rewards[0].pattern", "invalid_pattern"]);
        return message.test(error.message);
      },
    );
  });
}

Deno.test("pattern: what would take long to compile is refused before", () => {
  // re2js takes each of these and makes a program of 100,000 steps or more.
  for (
    const source of [
      "a{1000}".repeat(142),
      "x{0,1000}".repeat(110),
      `(?:${"a".repeat(900)}){1000}`,
      `(?:\\Q)\\E${"a".repeat(900)}){1000}`,
      `(?:[])]${"a".repeat(900)}){1000}`,
      `(?:[^])]${"a".repeat(900)}){1000}`,
      `(?:[\\])]${"a".repeat(900)}){1000}`,
      `(?:[[:alpha:])]${"a".repeat(900)}){1000}`,
      `(?:\\)${"a".repeat(900)}){1000}`,
      "(?:(?:a?){30}){30}".repeat(50),
      "(?i)" + "\\pL".repeat(330),
    ]
  ) {
    assertThrows(() => compilePattern(source), /repeats written out it is \d+ /);
  }
});

Deno.test("pattern: nothing that is taken makes a large program", () => {
  const { source: counted } = fc.letrec<{ source: string }>((tie) => ({
    source: fc.oneof(
      { depthSize: "medium" },
      fc.constantFrom("a", ".", "[])x]", "[^]{9}]", "\\{", "\\x{61}", "\\Q(\\E", "\\pL", "😀"),
      fc.tuple(tie("source"), tie("source")).map(([x, y]) => x + y),
      fc.tuple(tie("source"), tie("source")).map(([x, y]) => `(${x}|${y})`),
      fc.tuple(tie("source"), fc.constantFrom("*", "{9}", "{0,12}", "{7,}", "{5}?"))
        .map(([x, count]) => `(?:${x})${count}`),
    ),
  }));
  let taken = 0;
  fc.assert(
    fc.property(counted, (source) => {
      fc.pre(source.length <= maxPatternLength);
      try {
        compilePattern(source);
      } catch {
        return;
      }
      taken++;
      const size = RE2JS.compile(source).programSize();
      assert(size <= 4000, `${size} steps`);
    }),
    { numRuns: 1000 },
  );
  assert(taken > 300, `${taken} patterns were taken`);
});

Deno.test("pattern: what would keep a backtracking engine busy for years is answered", () => {
  // A first b keeps the search for the literal from answering at once.
  const text = "b" + "a".repeat(200_000);
  for (
    const source of ["(a+)+b$", "(a|a)*b$", "(a*)*(a*)*b$", ".*.*.*.*b$", "(a{1,20}){1,20}b$"]
  ) {
    assert(!compilePattern(source).matches(text));
  }
});

Deno.test("pattern: half of a surrogate pair is a character like any other", () => {
  assert(compilePattern("^.$").matches("\ud83d"));
  assert(!compilePattern("\ude00").matches("a"));
});
