import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { csvParser } from "../../../lib/data/csv.ts";
import { InvalidFile } from "../../../lib/errors.ts";
import { assertThrows } from "../../asserts.ts";

function parse(text: string, pieceLength = text.length || 1) {
  const parser = csvParser();
  const rows = [];
  for (let i = 0; i < text.length; i += pieceLength) {
    rows.push(...parser.push(text.slice(i, i + pieceLength)));
  }
  return [...rows, ...parser.end()];
}

const fieldsOf = (text: string) => parse(text).map(({ fields }) => fields);

Deno.test("csv: fields, quotes, line ends and blank lines", () => {
  assertEquals(fieldsOf("a,b\r\n1,\n"), [["a", "b"], ["1", ""]]);
  assertEquals(fieldsOf('"a, ""b""\n c",d'), [['a, "b"\n c', "d"]]);
  assertEquals(fieldsOf('a\n\n""\r\n\r\nb'), [["a"], [""], ["b"]]);
  assertEquals(fieldsOf(",\n"), [["", ""]]);
  assertEquals(fieldsOf(""), []);
});

Deno.test("csv: a row knows the line it begins on", () => {
  const rows = parse('a,b\n"1\n2\n3",x\n\ny,z\n');
  assertEquals(rows.map(({ line }) => line), [1, 2, 6]);
});

for (
  const [text, message] of [
    ['a\n"b', /line 2 as CSV: the quote that opens here is never closed/],
    ['a\nb"c', /line 2 as CSV: a quote stands inside a field without quotes/],
    ['a\n"b"c', /line 2 as CSV: "c" follows a closing quote/],
    ["a\rb", /line 1 as CSV: a carriage return stands alone/],
  ] as const
) {
  Deno.test(`csv: refuses ${JSON.stringify(text)}`, () => {
    assertThrows(
      () => parse(text),
      (error) => error instanceof InvalidFile && message.test(error.message),
    );
  });
}

Deno.test("csv: what a writer quotes comes back, cut anywhere", () => {
  const field = fc.array(fc.constantFrom("a", "é", "😀", ",", '"', "\n", "\r", " "))
    .map((characters) => characters.join(""));
  const table = fc.integer({ min: 1, max: 4 }).chain((width) =>
    fc.array(fc.array(field, { minLength: width, maxLength: width }), { minLength: 1 })
  );
  fc.assert(fc.property(
    table,
    fc.constantFrom("\n", "\r\n"),
    fc.boolean(),
    fc.integer({ min: 1, max: 7 }),
    (rows, lineEnd, endsWithLine, pieceLength) => {
      const cell = (text: string) =>
        text === "" || /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
      const text = rows.map((row) => row.map(cell).join(",")).join(lineEnd) +
        (endsWithLine ? lineEnd : "");
      assertEquals(parse(text, pieceLength).map(({ fields }) => fields), rows);
    },
  ));
});
