// Datasets in and out: JSONL, JSON (an array), CSV (with a header row) and Parquet become samples of one
// form. A record has one of four shapes (API.md, "Files in"): `messages`, `prompt/completion`,
// `question/answer`, `instruction/input?/output`; `system` may carry the label. Every field is kept in
// `item`. JSONL, CSV and Parquet are read in pieces. Left out on purpose: tool calls and images.

import { InvalidFile, InvalidRequest } from "../errors.ts";
import { csvParser } from "./csv.ts";
import { parquetRows } from "./parquet.ts";
import type { Message, Sample, System } from "./record.ts";

export interface DatasetLimits {
  /** The field of the request that named the file; it reaches the error. */
  param?: string;
  /** Size of the file; 1 GiB by default, and 256 MiB for .json, which is parsed whole. */
  maxBytes?: number;
  /** 5 million by default. */
  maxRecords?: number;
}

const gibibyte = 2 ** 30;
const maxJsonBytes = 2 ** 28;
const maxLineChars = 2 ** 24;

const formats = new Map<string, "jsonl" | "json" | "csv" | "parquet">([
  ["jsonl", "jsonl"],
  ["ndjson", "jsonl"],
  ["json", "json"],
  ["csv", "csv"],
  ["parquet", "parquet"],
]);

/** Where a record stands ("line 3 of a.jsonl") and what it holds. */
interface Placed {
  where: string;
  record: unknown;
}

/**
 * Reads a dataset file into samples, in the file's order; the format follows from `filename`'s ending.
 * @throws {InvalidFile} naming the line or row and the field, what was found and what is wanted.
 */
export async function readDataset(
  path: string,
  filename: string,
  limits: DatasetLimits = {},
): Promise<Sample[]> {
  const { param = "file", maxRecords = 5_000_000 } = limits;
  const format = formats.get(filename.slice(filename.lastIndexOf(".") + 1).toLowerCase());
  const fail = (what: string) => new InvalidFile(`Cannot read ${filename}: ${what}`, param);
  if (!format) throw fail("its name must end in .jsonl, .json, .csv or .parquet");

  let sizeBytes: number;
  try {
    sizeBytes = (await Deno.stat(path)).size;
  } catch (error) {
    throw fail(error instanceof Deno.errors.NotFound ? "it is not there any more" : String(error));
  }
  const maxBytes = Math.min(
    limits.maxBytes ?? gibibyte,
    format === "json" ? maxJsonBytes : Infinity,
  );
  if (sizeBytes > maxBytes) {
    const advice = format === "json" ? "write it as .jsonl" : "split it";
    throw fail(`it has ${sizeBytes} bytes, the limit is ${maxBytes}; ${advice}`);
  }
  if (sizeBytes === 0) throw fail("it is empty; wanted at least one record");

  const records = {
    jsonl: () => jsonLines(path, fail),
    json: () => jsonArray(path, fail),
    csv: () => csvRecords(path, fail, param),
    parquet: () => parquetRecords(path, filename, maxRecords, param),
  }[format]();

  const samples: Sample[] = [];
  for await (const group of records) {
    for (const { where, record } of group) {
      if (samples.length >= maxRecords) {
        throw fail(`it has more than ${maxRecords} records, the limit; split it`);
      }
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

// --- formats ---

type Fail = (what: string) => InvalidFile;

/** The file's text in pieces, UTF-8, a byte order mark dropped. */
async function* textOf(path: string, fail: Fail): AsyncGenerator<string> {
  using file = await Deno.open(path, { read: true });
  const decoder = new TextDecoder("utf-8", { fatal: true });
  const bytes = new Uint8Array(2 ** 18);
  let at = 0;
  try {
    for (let count = await file.read(bytes); count !== null; count = await file.read(bytes)) {
      yield decoder.decode(bytes.subarray(0, count), { stream: true });
      at += count;
    }
    yield decoder.decode();
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    throw fail(
      `it is not UTF-8 text somewhere after byte ${Math.max(0, at - 3)}; save it as UTF-8`,
    );
  }
}

async function* jsonLines(path: string, fail: Fail): AsyncGenerator<Placed[]> {
  let rest = "", line = 0;
  function parse(text: string): Placed[] {
    line++;
    if (text.trim() === "") return [];
    try {
      return [{ where: `line ${line}`, record: JSON.parse(text) }];
    } catch (error) {
      const shown = text.length > 60 ? `${text.slice(0, 60)}…` : text;
      throw fail(`line ${line} is not JSON (${(error as Error).message}): ${shown}`);
    }
  }
  for await (const piece of textOf(path, fail)) {
    const lines = (rest + piece).split("\n");
    rest = lines.pop()!;
    if (rest.length > maxLineChars) {
      throw fail(
        `line ${
          line + lines.length + 1
        } is longer than ${maxLineChars} characters; wanted one record a line`,
      );
    }
    yield lines.flatMap(parse);
  }
  yield parse(rest);
}

async function* jsonArray(path: string, fail: Fail): AsyncGenerator<Placed[]> {
  let text = "";
  for await (const piece of textOf(path, fail)) text += piece;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw fail(
      `it is not JSON (${
        (error as Error).message
      }); a file of one record a line must end in .jsonl`,
    );
  }
  if (!Array.isArray(value)) throw fail(`it holds ${found(value)}, wanted an array of records`);
  yield value.map((record, index) => ({ where: `record ${index + 1}`, record }));
}

async function* csvRecords(path: string, fail: Fail, param: string): AsyncGenerator<Placed[]> {
  const parser = csvParser(param);
  let header: string[] | null = null;
  function place(rows: { fields: string[]; line: number }[]): Placed[] {
    if (!header && rows.length > 0) header = checkHeader(rows.shift()!.fields, fail);
    return rows.map(({ fields, line }) => {
      if (fields.length !== header!.length) {
        throw fail(
          `the row at line ${line} has ${fields.length} fields, the header has ${header!.length}`,
        );
      }
      const record = Object.fromEntries(header!.map((name, column) => [name, fields[column]]));
      return { where: `the row at line ${line}`, record };
    });
  }
  for await (const piece of textOf(path, fail)) yield place(parser.push(piece));
  yield place(parser.end());
}

function checkHeader(names: string[], fail: Fail): string[] {
  for (const [column, name] of names.entries()) {
    if (name === "") throw fail(`the header's column ${column + 1} has no name`);
    if (names.indexOf(name) !== column) throw fail(`the header names the column "${name}" twice`);
  }
  return names;
}

async function* parquetRecords(
  path: string,
  filename: string,
  maxRecords: number,
  param: string,
): AsyncGenerator<Placed[]> {
  let row = 0;
  const limits = { maxRecords, maxMemoryBytes: 2 * gibibyte };
  for await (const rows of parquetRows(path, filename, limits, param)) {
    yield rows.map((record) => ({ where: `row ${++row}`, record }));
  }
}

// --- record shapes ---

type FailRecord = (what: string) => Error;

/** One record in one of the four shapes. `fail` makes the error that says where the record stands. */
function toSample(record: unknown, fail: FailRecord): Sample {
  if (typeof record !== "object" || record === null || Array.isArray(record)) {
    throw fail(`it is ${found(record)}, wanted an object`);
  }
  const item = record as Record<string, unknown>;
  const system = label(item.system, fail);
  const has = (name: string) => item[name] !== undefined && item[name] !== null;

  if (has("messages")) {
    const messages = conversation(item.messages, "messages", fail);
    const last = messages.at(-1)!;
    const answered = last.role === "assistant";
    const prompt = answered ? messages.slice(0, -1) : messages;
    if (prompt.length === 0) {
      throw fail(
        'field "messages" holds only an assistant message, wanted what it answers before it',
      );
    }
    const answer = answered ? nonEmpty(last.content) : text(item, "answer", fail);
    return { prompt, answer, system, item };
  }
  if (has("prompt")) {
    const prompt = typeof item.prompt === "string"
      ? user(wantedText(item, "prompt", fail))
      : conversation(item.prompt, "prompt", fail);
    // A record for RL has no completion to learn, only an answer to compare with.
    const answer = has("completion") ? completion(item, fail) : text(item, "answer", fail);
    return { prompt, answer, system, item };
  }
  if (has("question")) {
    const prompt = user(wantedText(item, "question", fail));
    return { prompt, answer: text(item, "answer", fail), system, item };
  }
  if (has("instruction")) {
    const instruction = wantedText(item, "instruction", fail);
    const input = text(item, "input", fail);
    const prompt = user(input === null ? instruction : `${instruction}\n${input}`);
    return { prompt, answer: text(item, "output", fail), system, item };
  }
  const fields = Object.keys(item).map((name) => `"${name}"`).join(", ") || "none";
  throw fail(
    `its fields are ${fields}, wanted "messages", "prompt" and "completion", "question" and "answer", or "instruction" and "output"`,
  );
}

function label(value: unknown, fail: FailRecord): System | null {
  // "undecided" is what our own classification writes where the tie rule says so.
  if (value === undefined || value === null || value === "" || value === "undecided") return null;
  if (value === "system1" || value === "system2") return value;
  throw fail(`field "system" is ${found(value)}, wanted "system1", "system2" or no such field`);
}

function user(content: string): Message[] {
  return [{ role: "user", content }];
}

/** Text that is there and not blank. */
function wantedText(item: Record<string, unknown>, name: string, fail: FailRecord): string {
  const value = text(item, name, fail);
  if (value === null) throw fail(`field "${name}" is empty, wanted text`);
  return value;
}

/** A field's text; null when it is absent or blank. A number counts as its digits. */
function text(item: Record<string, unknown>, name: string, fail: FailRecord): string | null {
  const value = item[name];
  if (value === undefined || value === null) return null;
  if (typeof value === "number") return String(value);
  if (typeof value !== "string") throw fail(`field "${name}" is ${found(value)}, wanted text`);
  return nonEmpty(value);
}

function nonEmpty(value: string): string | null {
  return value.trim() === "" ? null : value;
}

/** TRL writes a conversation's completion as a list of one assistant message. */
function completion(item: Record<string, unknown>, fail: FailRecord): string | null {
  if (!Array.isArray(item.completion)) return text(item, "completion", fail);
  const messages = conversation(item.completion, "completion", fail);
  if (messages.length !== 1 || messages[0].role !== "assistant") {
    const roles = messages.map(({ role }) => role).join(", ");
    throw fail(`field "completion" has messages of ${roles}, wanted one of the assistant`);
  }
  return nonEmpty(messages[0].content);
}

/** A list of messages; CSV cells hold it as JSON text. */
function conversation(value: unknown, name: string, fail: FailRecord): Message[] {
  let list = value;
  if (typeof value === "string") {
    try {
      list = JSON.parse(value);
    } catch {
      throw fail(`field "${name}" is text that is not JSON, wanted a list of messages`);
    }
  }
  if (!Array.isArray(list)) throw fail(`field "${name}" is ${found(list)}, wanted a list`);
  if (list.length === 0) throw fail(`field "${name}" is an empty list, wanted a message`);
  return list.map((message, index) => {
    const place = `field "${name}[${index}]`;
    if (typeof message !== "object" || message === null) {
      throw fail(`${place}" is ${found(message)}, wanted {role, content}`);
    }
    const { role, content } = message as Record<string, unknown>;
    if (role !== "system" && role !== "user" && role !== "assistant") {
      throw fail(`${place}.role" is ${found(role)}, wanted "system", "user" or "assistant"`);
    }
    if (typeof content !== "string") {
      throw fail(`${place}.content" is ${found(content)}, wanted text`);
    }
    return { role, content };
  });
}

/** What a value is, for a message. */
function found(value: unknown): string {
  if (value === undefined) return "missing";
  if (value === null) return "null";
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object") return "an object";
  if (typeof value === "string") {
    return JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}…` : value);
  }
  return `the ${typeof value} ${value}`;
}
