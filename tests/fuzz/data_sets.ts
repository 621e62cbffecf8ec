// Damaged data sets through the real reader: each one must be read or refused, within a second and
// twice its size and 64 MiB of memory, and the reader must go on. A mutant is named by its format and
// number, which make it again.

import { GuardedReader } from "./guarded_reader.ts";
import { mutate } from "./mutate.ts";
import { fuzz, type FuzzReport } from "./report.ts";

const deadlineMs = 1000;

const parquet = async (...names: string[]) =>
  await Promise.all(
    names.map((name) => Deno.readFile(new URL(`../lib/data/${name}.parquet`, import.meta.url))),
  );
const utf8 = (text: string) => new TextEncoder().encode(text);

const records = [
  { question: "What is 2+2?", answer: "2+2=4\n#### 4", system: "system1", n: 1, list: [1, [2]] },
  {
    question: "Say \"a, b\" – é 😀;\t'x'",
    answer: "yes",
    system: "system2",
    n: -1.5e3,
    more: null,
  },
  { prompt: "Hi", completion: "Hello", ["__proto__"]: null, deep: { a: { b: [{ c: "" }] } } },
  { instruction: "Add", input: "1 and 2", output: "3" },
  {
    messages: [
      { role: "system", content: "Be brief." },
      { role: "user", content: "Why?" },
      { role: "assistant", content: "Because." },
    ],
  },
];
const many = Array.from({ length: 40 }, (_, i) => ({ ...records[i % 5], id: i }));

/** The question and answer rows of a CSV file with this delimiter. */
const csv = (delimiter: string, lineEnd: string) =>
  [["question", "answer", "system", "a note"]].concat(
    Array.from(
      { length: 30 },
      (_, i) => [`What is ${i}?`, `"${i}, ""x""\n"`, `system${1 + i % 2}`, ""],
    ),
  ).map((row) => row.join(delimiter)).join(lineEnd);

/** Whole files of each format. */
const originals: Record<string, () => Uint8Array[] | Promise<Uint8Array[]>> = {
  parquet: () =>
    parquet(
      ...["none", "snappy", "gzip", "brotli", "lz4", "zstd"].map((codec) => `questions_${codec}`),
      "messages",
      "duckdb",
      "encodings_v1",
      "encodings_v2",
      "types",
    ),
  jsonl: () => [
    utf8(records.map((record) => JSON.stringify(record)).join("\n") + "\n"),
    utf8("\ufeff" + many.map((record) => JSON.stringify(record)).join("\r\n\r\n")),
  ],
  json: () => [utf8(JSON.stringify(records)), utf8(JSON.stringify(many, null, 2))],
  csv: () => [utf8(csv(",", "\n")), utf8("\ufeff" + csv(";", "\r\n")), utf8(csv("\t", "\n"))],
};

/**
 * A mutant. Of every other Parquet file the footer stays and the pages keep their place, or hardly a
 * change would get past the footer's checks.
 */
function mutant(format: string, number: number, whole: Uint8Array[]): Uint8Array {
  const original = whole[number % whole.length];
  // The number of the pass over the files, so that each is met by both kinds.
  const keepsFooter = format === "parquet" && Math.floor(number / whole.length) % 2 === 1;
  if (!keepsFooter) return mutate(original, number, whole);
  const footerBytes = new DataView(original.buffer).getUint32(original.length - 8, true) + 8;
  const pages = original.subarray(0, original.length - footerBytes);
  const bytes = original.slice();
  bytes.set(mutate(pages, number, [pages]).subarray(0, pages.length));
  return bytes;
}

export const formats = Object.keys(originals);

/** Reads mutants number `first` and following of a format. */
export async function fuzzFormat(format: string, count: number, first = 0): Promise<FuzzReport> {
  const whole = await originals[format]();
  const path = await Deno.makeTempFile({ prefix: "lorapar-fuzz-" });
  const reader = new GuardedReader(deadlineMs);
  try {
    return await fuzz(format, { count, first }, async (number) => {
      const bytes = mutant(format, number, whole);
      await Deno.writeFile(path, bytes);
      const outcome = await reader.read(path, `mutant.${format}`);
      return { outcome, sizeBytes: bytes.length };
    });
  } finally {
    reader.close();
    await Deno.remove(path);
  }
}
