import { assertEquals } from "@std/assert";
import {
  type DatasetLimits,
  readDataset,
  readSamples,
  toRecord,
  writeJsonLines,
} from "../../../lib/data/dataset.ts";
import type { Sample } from "../../../lib/data/record.ts";
import { InvalidFile, InvalidRequest } from "../../../lib/errors.ts";
import { assertRejects, assertThrows } from "../../asserts.ts";

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

Deno.test("dataset: the four shapes become one", () => {
  const samples = readSamples([
    { question: "2+2?", answer: "#### 4", system: "system1", id: 7 },
    { prompt: "Say hi", completion: "hi" },
    { instruction: "Add", input: "1 and 2", output: "3", system: "system2" },
    { instruction: "Sing", input: "", output: "la" },
    {
      messages: [
        { role: "system", content: "Be brief." },
        { role: "user", content: "Hi" },
        { role: "assistant", content: "Hello" },
      ],
    },
  ]);
  assertEquals(samples.map(({ prompt, answer, system }) => ({ prompt, answer, system })), [
    { prompt: [{ role: "user", content: "2+2?" }], answer: "#### 4", system: "system1" },
    { prompt: [{ role: "user", content: "Say hi" }], answer: "hi", system: null },
    { prompt: [{ role: "user", content: "Add\n1 and 2" }], answer: "3", system: "system2" },
    { prompt: [{ role: "user", content: "Sing" }], answer: "la", system: null },
    {
      prompt: [{ role: "system", content: "Be brief." }, { role: "user", content: "Hi" }],
      answer: "Hello",
      system: null,
    },
  ]);
  assertEquals(samples[0].item.id, 7);
});

Deno.test("dataset: TRL's conversations, RL records without a completion, numbers as answers", () => {
  const turn = [{ role: "user", content: "2+2?" }];
  const samples = readSamples([
    { prompt: turn, completion: [{ role: "assistant", content: "4" }] },
    { prompt: turn, answer: 4 },
    { messages: turn, answer: "4" },
    { question: "2+2?" },
    { question: "2+2?", answer: " " },
    { question: "2+2?", answer: "4", system: "undecided" },
  ]);
  assertEquals(samples.map(({ answer }) => answer), ["4", "4", "4", null, null, "4"]);
  for (const { prompt, system } of samples) assertEquals([prompt, system], [turn, null]);
});

for (
  const [record, message] of [
    [[], /samples\[0\]: it is a list, wanted an object/],
    [{ text: "a" }, /its fields are "text", wanted "messages"/],
    [{ question: 1 / 0, answer: { a: 1 } }, /field "answer" is an object, wanted text/],
    [{ question: "  ", answer: "4" }, /field "question" is empty/],
    [
      { question: "a", answer: "b", system: "You are kind." },
      /field "system" is "You are kind\.", wanted "system1"/,
    ],
    [{ messages: [] }, /field "messages" is an empty list/],
    [
      { messages: [{ role: "tool", content: "a" }] },
      /field "messages\[0\]\.role" is "tool", wanted "system", "user" or "assistant"/,
    ],
    [
      { messages: [{ role: "user", content: [] }] },
      /field "messages\[0\]\.content" is a list, wanted text/,
    ],
    [{ messages: [{ role: "assistant", content: "a" }] }, /holds only an assistant message/],
    [
      { prompt: "a", completion: [{ role: "user", content: "b" }] },
      /field "completion" has messages of user/,
    ],
  ] as const
) {
  Deno.test(`dataset: refuses ${JSON.stringify(record)}`, () => {
    assertThrows(
      () => readSamples([record]),
      (error) =>
        error instanceof InvalidRequest && error.param === "samples[0]" &&
        message.test(error.message),
    );
  });
}

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
    await refuses(/Cannot read a\.parquet as Parquet/, "a.parquet", whole.slice(0, length));
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
  await refuses(/it holds an object, wanted an array/, "a.json", JSON.stringify(good));
  await refuses(/it is not JSON .*\.jsonl/, "a.json", lines(good, good));
  await refuses(
    /the row at line 4 has 1 fields, the header has 2/,
    "a.csv",
    'question,answer\n"a\nb",c\nd\n',
  );
  await refuses(/names the column "answer" twice/, "a.csv", "answer,answer\n1,2\n");
  await refuses(/column 2 has no name/, "a.csv", "question,\n1,2\n");
  await refuses(/not UTF-8/, "a.jsonl", Uint8Array.of(0x7b, 0xff, 0xfe));
  await refuses(/has 29 bytes, the limit is 10/, "a.jsonl", lines(good), {
    maxBytes: 10,
    param: "validation_file",
  });
  await refuses(/more than 1 records/, "a.jsonl", lines(good, good), { maxRecords: 1 });
  await assertRejects(() => readDataset("/nowhere/a.jsonl", "a.jsonl"), /it is not there any more/);
});

Deno.test("dataset: a long file cut at every place of the reader's buffer comes back whole", async () => {
  const records = Array.from({ length: 6000 }, (_, index) => ({
    question: `é${index}`.repeat(1 + index % 17),
    answer: String(index),
  }));
  const samples = await read("a.jsonl", lines(...records));
  assertEquals(samples.map(({ item }) => item), records);
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
