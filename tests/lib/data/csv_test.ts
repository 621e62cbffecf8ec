import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { csvRecords } from "../../../lib/data/csv.ts";
import { InvalidFile } from "../../../lib/errors.ts";
import { assertRejects } from "../../asserts.ts";

/** The text in pieces of this many characters. */
async function* piecesOf(text: string, length: number) {
  const characters = Array.from(text);
  for (let at = 0; at < characters.length; at += length) {
    yield characters.slice(at, at + length).join("");
  }
}

async function parse(text: string, pieceLength = text.length || 1) {
  const records = [];
  const fail = (what: string) => new InvalidFile(what);
  for await (const group of csvRecords(piecesOf(text, pieceLength), fail)) records.push(...group);
  return records;
}

const recordsOf = async (text: string) => (await parse(text)).map(({ record }) => record);

Deno.test("csv: fields, quotes, line ends and blank lines", async () => {
  assertEquals(await recordsOf("a,b\r\n1,\n"), [{ a: "1", b: "" }]);
  assertEquals(await recordsOf('"a, ""b""\n c",d\n1,2'), [{ 'a, "b"\n c': "1", d: "2" }]);
  assertEquals(await recordsOf('\r\n\na\n\n""\r\n\r\nb'), [{ a: "" }, { a: "b" }]);
  assertEquals(await recordsOf("a,b\n,\n"), [{ a: "", b: "" }]);
  assertEquals(await recordsOf("a,b\n"), []);
  assertEquals(await recordsOf(""), []);
});

Deno.test("csv: the first row tells the delimiter", async () => {
  const wanted = [{ question: "1,5;2", answer: "3" }];
  assertEquals(await recordsOf('question,answer\n"1,5;2",3\n'), wanted);
  assertEquals(await recordsOf('question;answer\n"1,5;2";3\n'), wanted);
  assertEquals(await recordsOf("question\tanswer\n1,5;2\t3\n"), wanted);
  // What stands in quotes does not count.
  assertEquals(await recordsOf('"a;b;c",d\n1,2\n'), [{ "a;b;c": "1", d: "2" }]);
  assertEquals(await recordsOf("question\n1\n"), [{ question: "1" }]);
});

Deno.test("csv: a row knows the line it begins on", async () => {
  const rows = await parse('a,b\n"1\n2\n3",x\n\ny,z\n');
  assertEquals(rows.map(({ where }) => where), ["the row at line 2", "the row at line 6"]);
  const windows = await parse('a,b\r\n"1\r\n2\r\n3",x\r\n\r\ny,z\r\n');
  assertEquals(windows.map(({ where }) => where), ["the row at line 2", "the row at line 6"]);
});

Deno.test("csv: fields named after an object's members are fields like others", async () => {
  const [record] = await recordsOf("__proto__,constructor,toString\n1,2,3\n");
  assertEquals(Object.entries(record as object), [
    ["__proto__", "1"],
    ["constructor", "2"],
    ["toString", "3"],
  ]);
});

for (
  const [text, message] of [
    ['a\nc\n\n"b\n', /row at line 4 is not CSV: a quote in it is never closed/],
    ['a\nb"c', /row at line 2 is not CSV: a quote stands inside a field without quotes/],
    ['a\n"b"c\n', /row at line 2 is not CSV: text follows a closing quote/],
    ["a\rb", /a carriage return stands alone/],
    ["a\0b\n1", /NUL/],
    ["a,a\n1,2\n", /names the column "a" twice/],
    ["a,\n1,2\n", /column 2 has no name/],
    ["a,b\n1,2\n3\n", /row at line 3 has 1 fields, the header has 2/],
    [`a\n${"b".repeat(2 ** 24 + 9)}`, /row at line 2 is not CSV: it is longer than 16777216/],
    [`a${",".repeat(1000)}\n`, /its header has 1001 columns, the limit is 1000/],
  ] as const
) {
  Deno.test(`csv: refuses ${JSON.stringify(text.slice(0, 20))}`, async () => {
    await assertRejects(
      () => parse(text, 2 ** 18),
      (error) => error instanceof InvalidFile && message.test(error.message),
    );
  });
}

Deno.test("csv: an error of the text ends the reading", async () => {
  async function* pieces() {
    yield "a\n1\n";
    await Promise.resolve();
    throw new InvalidFile("line 3 is not UTF-8 text");
  }
  await assertRejects(async () => {
    for await (const _ of csvRecords(pieces(), (what) => new InvalidFile(what)));
  }, /line 3 is not UTF-8/);
});

Deno.test("csv: whoever stops reading closes the text", async () => {
  let closed = false;
  async function* pieces() {
    try {
      for (let i = 0;; i++) yield i === 0 ? "a\n" : "1\n".repeat(10_000);
    } finally {
      closed = true;
    }
  }
  for await (const _ of csvRecords(pieces(), (what) => new InvalidFile(what))) break;
  assertEquals(closed, true);
});

Deno.test("csv: what a writer quotes comes back, cut anywhere", async () => {
  const field = fc.array(fc.constantFrom("a", "é", "😀", ",", ";", "\t", '"', "\n", "\r", " "))
    .map((characters) => characters.join(""));
  const table = fc.integer({ min: 1, max: 4 }).chain((width) =>
    fc.array(fc.array(field, { minLength: width, maxLength: width }), { minLength: 1 })
  );
  await fc.assert(fc.asyncProperty(
    table,
    fc.constantFrom(",", ";", "\t"),
    fc.constantFrom("\n", "\r\n"),
    fc.boolean(),
    fc.integer({ min: 1, max: 7 }),
    async (rows, delimiter, lineEnd, endsWithLine, pieceLength) => {
      const cell = (text: string) =>
        text === "" || /[",;\t\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
      const names = rows[0].map((_, column) => `c${column}`);
      const text = [names, ...rows].map((row) => row.map(cell).join(delimiter)).join(lineEnd) +
        (endsWithLine ? lineEnd : "");
      const records = await parse(text, pieceLength);
      assertEquals(records.map(({ record }) => Object.values(record as object)), rows);
    },
  ));
});
