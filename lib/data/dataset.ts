// Datasets in and out: JSONL, JSON (an array), CSV (with a header row) and Parquet become samples of one
// form. Files are read in pieces, and what they may take of memory is bounded; nothing in a file, however
// damaged, is worse than an error that says where it stands.

import { getHeapStatistics } from "node:v8";
import { InvalidFile, InvalidRequest } from "../errors.ts";
import { csvRecords } from "./csv.ts";
import { jsonArrayRecords, jsonLineRecords, type PlacedRecord } from "./json_records.ts";
import { MemoryBudget, memoryOf, recordBytes } from "./memory_budget.ts";
import { parquetRecords } from "./parquet.ts";
import type { Sample } from "./record.ts";
import { toSample } from "./sample.ts";
import { textPieces } from "./text_file.ts";

export interface DatasetLimits {
  /** The field of the request that named the file; it reaches the error. */
  param?: string;
  /** Size of the file; 1 GiB by default. */
  maxBytes?: number;
  /** 5 million by default. */
  maxRecords?: number;
  /** What the samples may take, as an estimate; 2 GiB by default, and half of V8's heap at most. */
  maxMemoryBytes?: number;
}

const gibibyte = 2 ** 30;
/** Past V8's own limit the process ends. */
const defaultMemoryBytes = Math.min(2 * gibibyte, getHeapStatistics().heap_size_limit / 2);

/**
 * What a Parquet file may unpack to: 64 times its size, which text of any language stays far below, or
 * 16 MiB where that is more.
 */
const maxExpansion = 64;
const freeExpansionBytes = 2 ** 24;

const formats = new Map<string, "jsonl" | "json" | "csv" | "parquet">([
  ["jsonl", "jsonl"],
  ["ndjson", "jsonl"],
  ["json", "json"],
  ["csv", "csv"],
  ["parquet", "parquet"],
]);

/**
 * Reads a dataset file into samples, in the file's order; the format follows from `filename`'s ending.
 * @throws {InvalidFile} naming the line or row and the field, what was found and what is wanted.
 */
export async function readDataset(
  path: string,
  filename: string,
  limits: DatasetLimits = {},
): Promise<Sample[]> {
  const { param = "file", maxRecords = 5_000_000, maxMemoryBytes = defaultMemoryBytes } = limits;
  const format = formats.get(filename.slice(filename.lastIndexOf(".") + 1).toLowerCase());
  const fail = (what: string) => new InvalidFile(`Cannot read ${filename}: ${what}`, param);
  if (!format) throw fail("its name must end in .jsonl, .json, .csv or .parquet");

  const sizeBytes = await sizeOf(path, fail);
  const { maxBytes = gibibyte } = limits;
  if (sizeBytes > maxBytes) {
    throw fail(`it has ${sizeBytes} bytes, the limit is ${maxBytes}; split it`);
  }
  if (sizeBytes === 0) throw fail("it is empty; wanted at least one record");

  const limitBytes = format === "parquet"
    ? Math.min(maxMemoryBytes, Math.max(freeExpansionBytes, maxExpansion * sizeBytes))
    : maxMemoryBytes;
  const budget = new MemoryBudget(
    limitBytes,
    () => fail(`its ${sizeBytes} bytes unpack to more than ${limitBytes}, the limit; split it`),
  );
  const groups: AsyncGenerator<Iterable<PlacedRecord>> = {
    jsonl: () => jsonLineRecords(textPieces(path, fail), fail),
    json: () => jsonArrayRecords(textPieces(path, fail), fail),
    csv: () => csvRecords(textPieces(path, fail), fail),
    parquet: () => parquetRecords(path, { maxRecords, budget, fail }),
  }[format]();

  const samples: Sample[] = [];
  for await (const group of groups) {
    for (const { where, record } of group) {
      if (samples.length >= maxRecords) {
        throw fail(`it has more than ${maxRecords} records, the limit; split it`);
      }
      budget.spend(recordBytes + memoryOf(record));
      samples.push(
        toSample(
          record,
          (what) => new InvalidFile(`Cannot use ${where} of ${filename}: ${what}`, param),
        ),
      );
    }
  }
  if (samples.length === 0) throw fail("it holds no record; wanted at least one");
  return samples;
}

/** Bytes of a regular file. */
async function sizeOf(path: string, fail: (what: string) => InvalidFile): Promise<number> {
  let info: Deno.FileInfo;
  try {
    info = await Deno.stat(path);
  } catch (error) {
    throw fail(error instanceof Deno.errors.NotFound ? "it is not there any more" : String(error));
  }
  // Opening a pipe would wait for a writer.
  if (!info.isFile) throw fail("it is no regular file");
  return info.size;
}

/**
 * Samples from records that came in a request.
 * @throws {InvalidRequest} naming the record by its path, e.g. `samples[3]`.
 */
export function readSamples(records: unknown[], param = "samples"): Sample[] {
  return records.map((record, index) => {
    const place = `${param}[${index}]`;
    return toSample(record, (what) => new InvalidRequest(`Cannot use ${place}: ${what}`, place));
  });
}

/** A sample's record as it came, with `fields` put over it: one line of an output file. */
export function toRecord(
  sample: Sample,
  fields: Record<string, unknown>,
): Record<string, unknown> {
  return { ...sample.item, ...fields };
}

/** Writes records as JSONL, one line each. */
export async function writeJsonLines(
  path: string,
  records: Iterable<Record<string, unknown>>,
): Promise<void> {
  const file = await Deno.open(path, { write: true, create: true, truncate: true });
  const encoder = new TextEncoder();
  function* pieces() {
    let text = "";
    for (const record of records) {
      text += JSON.stringify(record) + "\n";
      if (text.length < 2 ** 16) continue;
      yield encoder.encode(text);
      text = "";
    }
    yield encoder.encode(text);
  }
  await ReadableStream.from(pieces()).pipeTo(file.writable);
}
