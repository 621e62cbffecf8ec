// Rows of a Parquet file, one row group at a time: hyparquet decodes, this and the files beside it
// decide what it gets to see. Footer, page headers, sizes and contents are checked first, and what the
// file unpacks to is bounded, so that a damaged or hostile file is an error and nothing else.
// hyparquet's own readers of whole files are not used: they start every column at once, and where a
// second one fails, nobody waits for its rejection.

import { flatten } from "hyparquet";
import { assembleNested } from "hyparquet/src/assemble.js";
import { DEFAULT_PARSERS } from "hyparquet/src/convert.js";
import { InvalidFile } from "../errors.ts";
import type { PlacedRecord } from "./json_records.ts";
import type { MemoryBudget } from "./memory_budget.ts";
import { type Footer, footerLength, parseFooter, trailerBytes } from "./parquet_footer.ts";
import { readPages } from "./parquet_pages.ts";
import type { Fail } from "./text_file.ts";

export interface ParquetLimits {
  /** Rows the whole file may have. */
  maxRecords: number;
  /** What pages and values take is spent here before they are unpacked; what records take is not. */
  budget: MemoryBudget;
  fail: Fail;
}

/**
 * The rows of a Parquet file, in order, as records of JSON values; those of a row group together, each
 * made when it is asked for.
 * @throws what `fail` or the budget makes, when the file is damaged, holds what is not read, or passes
 * a limit.
 */
export async function* parquetRecords(
  path: string,
  { maxRecords, budget, fail }: ParquetLimits,
): AsyncGenerator<Iterable<PlacedRecord>> {
  using source = await Deno.open(path, { read: true });
  const fileBytes = (await source.stat()).size;
  /** Whatever a decoder throws on damaged bytes is an error of the file. */
  const reading = <T>(work: () => T, place = ""): T => {
    try {
      return work();
    } catch (error) {
      if (error instanceof InvalidFile) throw error;
      // JavaScript's own errors tell where a decoder stumbled, not what is wrong.
      const isOwn = error instanceof TypeError || error instanceof RangeError;
      const what = isOwn || !(error instanceof Error) ? "its bytes make no sense" : error.message;
      throw fail(`${place}${what}. Is it whole?`);
    }
  };
  const readAt = async (start: number, end: number) => {
    const bytes = new Uint8Array(end - start);
    await source.seek(start, Deno.SeekMode.Start);
    for (let done = 0; done < bytes.length;) {
      const read = await source.read(bytes.subarray(done));
      if (read === null) throw fail(`it ends before byte ${end}`);
      done += read;
    }
    return bytes;
  };

  const trailer = await readAt(Math.max(0, fileBytes - trailerBytes), fileBytes);
  const footerBytes = reading(() => footerLength(trailer, fileBytes)) + trailerBytes;
  const footer = await readAt(fileBytes - footerBytes, fileBytes);
  const { schema, groups } = reading(() => parseFooter(footer, fileBytes, budget));
  const rowCount = groups.reduce((sum, { rows }) => sum + rows, 0);
  if (rowCount > maxRecords) {
    throw fail(`it has ${rowCount} rows, the limit is ${maxRecords}; split it`);
  }

  let count = 0;
  for (const [index, { rows, chunks }] of groups.entries()) {
    const values = new Map<string, ReturnType<typeof flatten>>();
    for (const chunk of chunks) {
      const bytes = await readAt(chunk.start, chunk.end);
      const name = chunk.path.join(".");
      const place = `column ${name} of row group ${index + 1}: `;
      values.set(name, reading(() => flatten(readPages(bytes, chunk, budget)), place));
    }
    const fields = reading(() => fieldsOf(schema, values, rows));
    const recordAt = (row: number) =>
      Object.fromEntries(fields.map(([name, column]) => [name, plain(column[row])]));
    yield function* () {
      for (let row = 0; row < rows; row++) {
        yield { where: `row ${++count}`, record: reading(() => recordAt(row)) };
      }
    }();
  }
}

/** The fields of the records, each with its value for every row; nested columns become one field. */
function fieldsOf(
  schema: Footer["schema"],
  values: Map<string, ReturnType<typeof flatten>>,
  rows: number,
): [name: string, column: ReturnType<typeof flatten>][] {
  return schema.children.map((field) => {
    if (field.children.length > 0) assembleNested(values, field, DEFAULT_PARSERS);
    const column = values.get(field.element.name) ?? [];
    if (column.length !== rows) {
      throw new Error(`column ${field.element.name} has ${column.length} values for ${rows} rows`);
    }
    return [field.element.name, column];
  });
}

/** A value as JSON would hold it: integers as numbers (as text past 2^53), dates as ISO text. */
function plain(value: unknown): unknown {
  if (typeof value === "bigint") {
    return Number.isSafeInteger(Number(value)) ? Number(value) : value.toString();
  }
  if (value === undefined) return null;
  if (value instanceof Date) return value.toISOString();
  if (ArrayBuffer.isView(value)) return Array.from(value as Uint8Array);
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value === "object" && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, plain(inner)]));
  }
  return value;
}
