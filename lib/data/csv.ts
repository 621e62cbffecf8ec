// Records of a CSV file (RFC 4180) through csv-parse: the first row names the fields; a field in quotes
// may hold delimiters, quotes (doubled) and line ends; rows end with LF or CRLF; blank lines are none.
// The delimiter is the comma, the semicolon or the tab that the first row has most of, the comma where
// it has none. Left out on purpose: comments, other quotes, and guesses where a quote is misplaced,
// which is an error that names its row.

import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { CsvError, parse } from "csv-parse";
import type { PlacedRecord } from "./json_records.ts";
import { countLines, type Fail, maxRecordChars } from "./text_file.ts";

const delimiters = [",", ";", "\t"];
const maxColumns = 1000;
/** Where the first row ends is looked for in so many characters. */
const maxHeaderChars = 2 ** 20;
/** Fields of records that are handed out together. */
const batchFields = 2 ** 14;

/** The records of a .csv file, every value a text. @throws what `fail` makes, naming the row */
export async function* csvRecords(
  pieces: AsyncIterable<string>,
  fail: Fail,
): AsyncGenerator<PlacedRecord[]> {
  const source = pieces[Symbol.asyncIterator]();
  let beginning = "";
  for (let piece = await source.next(); !piece.done; piece = await source.next()) {
    beginning += piece.value;
    if (firstRow(beginning) !== null || beginning.length > maxHeaderChars) break;
  }
  // The line that a row begins on, from 1, by the row's fields.
  const lineOf = new WeakMap<string[], number>();
  let linesBefore = 0;
  const parser = parse({
    delimiter: delimiterOf(firstRow(beginning) ?? beginning),
    record_delimiter: ["\r\n", "\n"],
    skip_empty_lines: true,
    relax_column_count: true, // rows of another length are told below
    max_record_size: maxRecordChars,
    // Counted here: csv-parse takes a CRLF within quotes for two lines, and an error that it finds
    // arrives before the rows in front of it.
    on_record: (fields: string[], { empty_lines }) => {
      lineOf.set(fields, 1 + linesBefore + empty_lines);
      linesBefore += 1 + fields.reduce((sum, field) => sum + countLines(field), 0);
      return fields;
    },
  });
  async function* text() {
    yield beginning;
    for (let piece = await source.next(); !piece.done; piece = await source.next()) {
      yield piece.value;
    }
  }
  // The parser fails with what fails before it, and ends the source when reading ends.
  const parsing = pipeline(Readable.from(text()), parser);
  parsing.catch(() => {});

  let header: string[] | null = null;
  let batch: PlacedRecord[] = [];
  try {
    for await (const fields of parser as AsyncIterable<string[]>) {
      if (!header) {
        header = checkedHeader(fields, fail);
        continue;
      }
      const where = `the row at line ${lineOf.get(fields)}`;
      if (fields.length !== header.length) {
        throw fail(`${where} has ${fields.length} fields, the header has ${header.length}`);
      }
      const record = Object.fromEntries(header.map((name, column) => [name, fields[column]]));
      batch.push({ where, record });
      if (batch.length * header.length >= batchFields) {
        yield batch;
        batch = [];
      }
    }
  } catch (error) {
    if (!(error instanceof CsvError)) throw error;
    const { empty_lines } = error as unknown as { empty_lines: number };
    const line = 1 + linesBefore + empty_lines;
    throw fail(`the row at line ${line} is not CSV: ${reasonOf(error)}`);
  } finally {
    await source.return?.();
  }
  yield batch;
}

/** The first row that is not blank, up to its line end outside of quotes; null while there is none. */
function firstRow(text: string): string | null {
  const start = text.search(/[^\r\n]/);
  for (let at = start, inQuotes = false; at >= 0 && at < text.length; at++) {
    if (text[at] === '"') inQuotes = !inQuotes;
    else if (text[at] === "\n" && !inQuotes) return text.slice(start, at);
  }
  return null;
}

function delimiterOf(row: string): string {
  const unquoted = row.split('"').filter((_, part) => part % 2 === 0).join("");
  const counts = delimiters.map((delimiter) => unquoted.split(delimiter).length);
  return delimiters[counts.indexOf(Math.max(...counts))];
}

function reasonOf({ code, message }: CsvError): string {
  switch (code) {
    case "CSV_QUOTE_NOT_CLOSED":
      return "a quote in it is never closed";
    case "CSV_INVALID_CLOSING_QUOTE":
      return "text follows a closing quote; double the quotes inside of a field";
    case "INVALID_OPENING_QUOTE":
      return "a quote stands inside a field without quotes; put the field in quotes and double it";
    case "CSV_MAX_RECORD_SIZE":
      return `it is longer than ${maxRecordChars} characters`;
    default:
      return message;
  }
}

function checkedHeader(names: string[], fail: Fail): string[] {
  if (names.length > maxColumns) {
    throw fail(`its header has ${names.length} columns, the limit is ${maxColumns}`);
  }
  const before = new Set<string>();
  for (const [column, name] of names.entries()) {
    if (name.includes("\0")) throw fail("its header holds NUL characters; save it as UTF-8");
    if (name.includes("\r")) throw fail("a carriage return stands alone; end rows with LF or CRLF");
    if (name === "") throw fail(`the header's column ${column + 1} has no name`);
    if (before.has(name)) throw fail(`the header names the column "${name}" twice`);
    before.add(name);
  }
  return names;
}
