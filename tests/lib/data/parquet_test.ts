import { assert, assertEquals } from "@std/assert";
import { type DatasetLimits, readDataset } from "../../../lib/data/dataset.ts";
import { InvalidFile } from "../../../lib/errors.ts";
import { assertRejects } from "../../asserts.ts";
import { GuardedReader } from "../../fuzz/guarded_reader.ts";

const pathOf = (name: string) => new URL(`./${name}.parquet`, import.meta.url).pathname;

const rowsOf = async (name: string, limits?: DatasetLimits) =>
  (await readDataset(pathOf(name), "a.parquet", limits)).map(({ item }) => item);

const system = ["system1", "system2", null];

Deno.test("parquet: what DuckDB writes, its packed indices filled up", async () => {
  assertEquals(
    await rowsOf("duckdb"),
    Array.from({ length: 60 }, (_, i) => ({
      question: `What is ${i} + ${i % 7}?`,
      answer: i % 5 === 0 ? null : `${i + i % 7}`,
      system: system[Math.floor(i / 40)],
    })),
  );
});

for (const version of [1, 2]) {
  Deno.test(`parquet: every encoding, pages of version ${version}, with nulls`, async () => {
    assertEquals(
      await rowsOf(`encodings_v${version}`),
      Array.from({ length: 300 }, (_, i) => ({
        question: `What is ${i} + ${i % 7}?`,
        answer: i % 5 === 0 ? null : `${i + i % 7}`,
        system: system[Math.floor(i / 40) % 3],
        row: i,
        step: i % 3 === 0 ? null : i * i % 97 - 40,
        score: i / 8,
        hard: i % 3 === 0,
        nothing: null,
      })),
    );
  });
}

Deno.test("parquet: dates, decimals, lists, structs, maps and a field named __proto__", async () => {
  const rows = await rowsOf("types");
  assertEquals(
    rows.map((row) => JSON.stringify(row)),
    [
      '{"question":"a","when":"2024-02-29T12:30:00.000Z","day":"2024-02-29T00:00:00.000Z",' +
      '"price":12.5,"small":255,"tags":["x",null],"grid":[[1,2],[3]],"nested":{"a":1,"b":{"c":"x"}},' +
      '"map":{"k":1,"l":2},"__proto__":"p"}',
      '{"question":"b","when":null,"day":"1969-12-31T00:00:00.000Z","price":null,"small":0,"tags":[],' +
      '"grid":[[]],"nested":{"a":null,"b":{"c":null}},"map":{"__proto__":1},"__proto__":"q"}',
      '{"question":"c","when":"1970-01-01T00:00:00.000Z","day":null,"price":-0.25,"small":null,' +
      '"tags":null,"grid":null,"nested":{"a":2,"b":{"c":"y"}},"map":{"m":null},"__proto__":"r"}',
    ],
  );
  assertEquals(Object.getPrototypeOf(rows[0]), Object.prototype);
});

Deno.test("parquet: files that ended or stopped the reader are refused, and it goes on", async () => {
  const reader = new GuardedReader(5000);
  try {
    const damaged = {
      263: /column answer of row group 1 is called aqswer/,
      360: /column systnm of row group 1 is called system/,
      925: /its schema is damaged/,
      943: /column n of row group 1: a page's length of levels is undefined/,
      1210: /row group 1: a page's count of rows is undefined/,
    };
    for (const [name, wanted] of Object.entries(damaged)) {
      const { kind, error, message } = await reader.read(pathOf(`damaged/${name}`), "a.parquet");
      assertEquals([name, kind, error], [name, "refused", "InvalidFile"]);
      assert(wanted.test(message), message);
    }
    assertEquals((await reader.read(pathOf("messages"), "a.parquet")).kind, "read");
  } finally {
    reader.close();
  }
});

for (const name of ["text", "dictionary", "rows", "nulls", "prefixes"]) {
  Deno.test(`parquet: a small file that stands for much is refused early: ${name}`, async () => {
    const reader = new GuardedReader(5000);
    try {
      const outcome = await reader.read(pathOf(`bombs/${name}`), "a.parquet");
      assertEquals(outcome.kind, "refused");
      assert(
        /bytes unpack to more than 16777216, the limit/.test(outcome.message),
        outcome.message,
      );
      assert(outcome.grownBytes < 2 ** 26, `it grew by ${outcome.grownBytes} bytes`);
    } finally {
      reader.close();
    }
  });
}

Deno.test("parquet: limits of rows and of memory are told", async () => {
  const refused = (message: RegExp) => (error: unknown) =>
    error instanceof InvalidFile && message.test(error.message);
  await assertRejects(
    () => rowsOf("types", { maxRecords: 2 }),
    refused(/it has 3 rows, the limit is 2; split it/),
  );
  await assertRejects(
    () => rowsOf("types", { maxMemoryBytes: 2000 }),
    refused(/its 3\d{3} bytes unpack to more than 2000, the limit/),
  );
});
