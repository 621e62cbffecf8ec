import { assertEquals } from "@std/assert";
import {
  type DatasetLimits,
  readDataset,
  readSamples,
  toRecord,
  writeJsonLines,
} from "../../../lib/data/dataset.ts";
import type { Sample } from "../../../lib/data/record.ts";
import { InvalidFile } from "../../../lib/errors.ts";
import { assertRejects } from "../../asserts.ts";

async function read(
  filename: string,
  content: string | Uint8Array,
  limits?: DatasetLimits,
): Promise<Sample[]> {
  const path = await Deno.makeTempFile();
  try {
    if (typeof content === "string") await Deno.writeTextFile(path, content);
    else await Deno.writeFile(path, content);
    return await readDataset(path, filename, limits);
  } finally {
    await Deno.remove(path);
  }
}

async function refuses(
  message: RegExp,
  filename: string,
  content: string | Uint8Array,
  limits?: DatasetLimits,
) {
  await assertRejects(() => read(filename, content, limits), (error) => {
    if (!(error instanceof InvalidFile)) throw error;
    if (!message.test(error.message)) throw new Error(`${error.message} does not match ${message}`);
    return error.param === (limits?.param ?? "file");
  });
}

const parquet = (name: string) => new URL(`./${name}.parquet`, import.meta.url).pathname;
const lines = (...records: unknown[]) => records.map((r) => JSON.stringify(r)).join("\n");

Deno.test("dataset: JSONL, JSON and CSV hold the same", async () => {
  const records = [
    { question: 'Say "a,\nb"', answer: "é #### 1", system: "system1" },
    { question: "2+2?", answer: "4", system: "system2" },
  ];
  const wanted = readSamples(records);
  assertEquals(await read("a.jsonl", "\ufeff" + lines(...records) + "\r\n\n"), wanted);
  assertEquals(await read("A.JSON", JSON.stringify(records)), wanted);
  const csv = 'question,answer,system\r\n"Say ""a,\nb""",é #### 1,system1\r\n2+2?,4,system2\r\n';
  assertEquals(await read("a.csv", csv), wanted);
});

Deno.test("dataset: CSV cells hold conversations as JSON", async () => {
  const [sample] = await read(
    "a.csv",
    'messages\n"[{""role"":""user"",""content"":""Hi""},{""role"":""assistant"",""content"":""Yo""}]"',
  );
  assertEquals([sample.prompt, sample.answer], [[{ role: "user", content: "Hi" }], "Yo"]);
});

for (const codec of ["snappy", "zstd", "gzip", "brotli", "lz4", "none"]) {
  Deno.test(`dataset: Parquet, ${codec}, several row groups`, async () => {
    const samples = await readDataset(parquet(`questions_${codec}`), "a.parquet");
    assertEquals(samples.map(({ item }) => item), [
      { question: "What is 2+2?", answer: "2+2=4\n#### 4", system: "system1", difficulty: 1 },
      {
        question: "Capital of France? é",
        answer: "Paris",
        system: null,
        difficulty: "1152921504606846976",
      },
      { question: "6*7?", answer: "#### 42", system: "system2", difficulty: null },
    ]);
  });
}

Deno.test("dataset: Parquet with lists of messages", async () => {
  const samples = await readDataset(parquet("messages"), "a.parquet");
  assertEquals(samples.map(({ prompt, answer }) => [prompt.length, answer]), [[1, "Hello"], [
    2,
    null,
  ]]);
});

Deno.test("dataset: a Parquet file that is cut or damaged is refused, wherever it is", async () => {
  const whole = await Deno.readFile(parquet("questions_snappy"));
  for (let length = 1; length < whole.length; length += 97) {
    await refuses(/Cannot read a\.parquet: .* Is it whole\?/, "a.parquet", whole.slice(0, length));
  }
  const footerLength = new DataView(whole.buffer).getUint32(whole.length - 8, true);
  let refused = 0;
  for (let at = whole.length - 8 - footerLength; at < whole.length; at += 5) {
    const damaged = whole.slice();
    damaged[at] ^= 0x7f;
    try {
      await read("a.parquet", damaged);
    } catch (error) {
      if (!(error instanceof InvalidFile)) throw error;
      refused++;
    }
  }
  if (refused === 0) throw new Error("no damage was noticed");
});

Deno.test("dataset: a Parquet schema with a negative count of children is refused", async () => {
  const damaged = await Deno.readFile(parquet("messages"));
  // After the name of the struct: field 5 (num_children), 2 in zigzag; 5 stands for -3.
  const at = damaged.findIndex((_, i) => [116, 21, 4, 0, 21].every((b, j) => damaged[i + j] === b));
  damaged[at + 2] = 5;
  await refuses(/its schema is damaged/, "a.parquet", damaged);
});

Deno.test("dataset: refusals say where", async () => {
  const good = { question: "a", answer: "b" };
  await refuses(/it is empty/, "a.jsonl", "");
  await refuses(/it holds no record/, "a.jsonl", "\n\n");
  await refuses(/it holds no record/, "a.json", "[]");
  await refuses(/it holds no record/, "a.csv", "question,answer\n");
  await refuses(/must end in \.jsonl/, "a.txt", "a");
  await refuses(/must end in \.jsonl/, "a.constructor", "a");
  await refuses(/must end in \.jsonl/, "a.__proto__", "a");
  await refuses(/line 3 is not JSON .*: \{"question"$/, "a.jsonl", lines(good) + '\n\n{"question"');
  await refuses(
    /Cannot use line 2 of a\.jsonl: field "answer" is an object/,
    "a.jsonl",
    lines(good, { question: "a", answer: {} }),
  );
  await refuses(
    /Cannot use record 2 of a\.json: it is null/,
    "a.json",
    JSON.stringify([good, null]),
  );
  await refuses(/begins with "\{", wanted an array .* \.jsonl/, "a.json", lines(good, good));
  await refuses(
    /the row at line 4 has 1 fields, the header has 2/,
    "a.csv",
    'question,answer\n"a\nb",c\nd\n',
  );
  await refuses(/names the column "answer" twice/, "a.csv", "answer,answer\n1,2\n");
  await refuses(/column 2 has no name/, "a.csv", "question,\n1,2\n");
  await refuses(/line 2 is not UTF-8/, "a.jsonl", Uint8Array.of(0x0a, 0x7b, 0xff, 0xfe));
  await refuses(/line 3 is not UTF-8/, "a.csv", Uint8Array.of(0x61, 10, 0x62, 10, 0xff, 10));
  await refuses(/has 29 bytes, the limit is 10/, "a.jsonl", lines(good), {
    maxBytes: 10,
    param: "validation_file",
  });
  await refuses(/more than 1 records/, "a.jsonl", lines(good, good), { maxRecords: 1 });
  await assertRejects(() => readDataset("/nowhere/a.jsonl", "a.jsonl"), /it is not there any more/);
  // Opening a pipe would wait for a writer for ever.
  await assertRejects(() => readDataset("/dev/null", "a.jsonl"), /it is no regular file/);
});

Deno.test("dataset: a long file cut at every place of the reader's buffer comes back whole", async () => {
  const records = Array.from({ length: 6000 }, (_, index) => ({
    question: `é${index}`.repeat(1 + index % 17),
    answer: String(index),
  }));
  const samples = await read("a.jsonl", lines(...records));
  assertEquals(samples.map(({ item }) => item), records);
});

Deno.test("dataset: fields named after an object's members are fields like others", async () => {
  const line = '{"question":"a","__proto__":{"answer":"b"},"constructor":1,"toString":null}';
  for (const [name, text] of [["a.jsonl", line], ["a.json", `[${line}]`]]) {
    const [{ item, answer }] = await read(name, text);
    assertEquals([JSON.stringify(item), answer], [line, null]);
    assertEquals(JSON.stringify(toRecord({ item } as Sample, {})), line);
  }
});

Deno.test("dataset: what the records take of memory is bounded", async () => {
  const arrays = JSON.stringify({ question: "a", x: new Array(1000).fill([]) });
  await refuses(/its 3\d{3} bytes unpack to more than 50000, the limit/, "a.jsonl", arrays, {
    maxMemoryBytes: 50_000,
  });
  const texts = lines(...new Array(100).fill({ question: "a" }));
  await refuses(/unpack to more than 50000, the limit; split it/, "a.jsonl", texts, {
    maxMemoryBytes: 50_000,
  });
});

Deno.test("dataset: written records are read back with the fields put over them", async () => {
  const samples = readSamples([{ question: "a", answer: "b", system: "system1", id: 1 }]);
  const path = await Deno.makeTempFile();
  const votes = [{ teacher: "t", vote: "system2", reply: "System2\n" }];
  await writeJsonLines(path, samples.map((s) => toRecord(s, { system: "system2", votes })));
  const [back] = await readDataset(path, "classified.jsonl");
  await Deno.remove(path);
  assertEquals(back.system, "system2");
  assertEquals(back.item, { question: "a", answer: "b", system: "system2", id: 1, votes });
});
