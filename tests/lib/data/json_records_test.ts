import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { jsonArrayRecords, jsonLineRecords } from "../../../lib/data/json_records.ts";
import { InvalidFile } from "../../../lib/errors.ts";
import { assertRejects } from "../../asserts.ts";

/** The text in pieces of this many code units; JSON's readers take pairs cut in two. */
async function* piecesOf(text: string, length = text.length || 1) {
  for (let at = 0; at < text.length; at += length) yield text.slice(at, at + length);
}

async function parse(reader: typeof jsonArrayRecords, text: string, pieceLength?: number) {
  const records = [];
  const fail = (what: string) => new InvalidFile(what);
  for await (const group of reader(piecesOf(text, pieceLength), fail)) records.push(...group);
  return records;
}

const refuses = (reader: typeof jsonArrayRecords, text: string, message: RegExp) =>
  assertRejects(
    () => parse(reader, text, 2 ** 18),
    (error) => {
      assert(error instanceof InvalidFile && message.test(error.message), String(error));
      return true;
    },
  );

Deno.test("json_records: any values come back from lines and from an array, cut anywhere", async () => {
  await fc.assert(fc.asyncProperty(
    fc.array(fc.jsonValue({ maxDepth: 4 }), { maxLength: 5 }),
    fc.constantFrom(undefined, 1),
    fc.constantFrom("\n", "\r\n"),
    fc.integer({ min: 1, max: 9 }),
    async (values, space, lineEnd, pieceLength) => {
      const wanted = values.map((value) => JSON.parse(JSON.stringify(value)));
      const array = await parse(jsonArrayRecords, JSON.stringify(values, null, space), pieceLength);
      assertEquals(array.map(({ record }) => record), wanted);
      const text = values.map((value) => JSON.stringify(value)).join(lineEnd + lineEnd);
      const lines = await parse(jsonLineRecords, text, pieceLength);
      assertEquals(lines.map(({ record }) => record), wanted);
    },
  ));
});

Deno.test("json_records: lines and records are counted from 1, blank lines too", async () => {
  const lines = await parse(jsonLineRecords, "\n1\n\n2\n");
  assertEquals(lines.map(({ where }) => where), ["line 2", "line 4"]);
  const array = await parse(jsonArrayRecords, " [ 1 ,2 ] \n");
  assertEquals(array, [{ where: "record 1", record: 1 }, { where: "record 2", record: 2 }]);
  assertEquals(await parse(jsonArrayRecords, "[ \n ]"), []);
});

for (
  const [text, message] of [
    ["", /it is blank, wanted an array/],
    ['{"a":1}', /it begins with "\{", wanted an array of records; .* \.jsonl/],
    ["[1,]", /record 2 is not JSON/],
    ["[,1]", /record 1 is not JSON/],
    ["[1", /its array does not end/],
    ['["a]', /its array does not end/],
    ["[1] 2", /something stands after its array: 2/],
    ["[{]", /its array does not end/],
    ["[{]}]", /record 1 is not JSON/],
    [`[1,${"[".repeat(65)}`, /record 2 nests more than 64 brackets/],
    [`["${"a".repeat(2 ** 24)}"]`, /record 1 is longer than 16777216 characters/],
  ] as const
) {
  Deno.test(`json_records: refuses the array ${JSON.stringify(text.slice(0, 20))}`, async () => {
    await refuses(jsonArrayRecords, text, message);
  });
}

for (
  const [text, message] of [
    ['1\n{"a"\n', /line 2 is not JSON .*: \{"a"$/],
    ["1\n\0\n", /line 2 is not JSON/],
    [`1\n${"[".repeat(65)}${"]".repeat(65)}`, /line 2 is not JSON \(.* more than 64 deep\)/],
    [`1\n\n"${"a".repeat(2 ** 24)}"`, /line 3 is longer than 16777216 characters/],
  ] as const
) {
  Deno.test(`json_records: refuses the lines ${JSON.stringify(text.slice(0, 20))}`, async () => {
    await refuses(jsonLineRecords, text, message);
  });
}

Deno.test("json_records: megabytes of brackets are refused at once", async () => {
  const begin = performance.now();
  await refuses(jsonLineRecords, "[".repeat(4_000_000), /64 deep/);
  await refuses(jsonArrayRecords, "[".repeat(4_000_000), /64 brackets/);
  const ms = performance.now() - begin;
  // JSON.parse alone takes 3 seconds for each.
  assert(ms < 1000, `${ms} ms`);
});
