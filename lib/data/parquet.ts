// Rows of a Parquet file, read one row group at a time through hyparquet. The footer's counts and
// offsets are checked against the file's size and the limits before anything else is read.
// Left out on purpose: encrypted files and column selection (a record keeps every field).

import { parquetMetadataAsync, parquetReadObjects, type SchemaElement } from "hyparquet";
import { compressors } from "hyparquet-compressors";
import { InvalidFile } from "../errors.ts";

export interface ParquetLimits {
  /** Rows the whole file may have. */
  maxRecords: number;
  /** Bytes one row group may take once unpacked, as the footer states them. */
  maxGroupBytes: number;
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

/**
 * The rows of a Parquet file, in order, a row group at a time.
 * @throws {InvalidFile} when the file is truncated, its counts don't fit it, or a limit is passed.
 */
export async function* parquetRows(
  path: string,
  filename: string,
  limits: ParquetLimits,
  param: string | null = null,
): AsyncGenerator<Record<string, unknown>[]> {
  using source = await Deno.open(path, { read: true });
  const byteLength = (await source.stat()).size;
  const fail = (what: string) =>
    new InvalidFile(`Cannot read ${filename} as Parquet: ${what}`, param);

  // Reads block: hyparquet asks for several slices at once, a file has one position, and a slice still
  // under way when a damaged column ends the reading would fail with nobody waiting for it.
  function slice(start: number, end = byteLength): ArrayBuffer {
    if (!(start >= 0 && start <= end && end <= byteLength)) {
      throw fail(`bytes ${start} to ${end} are wanted, the file has ${byteLength}`);
    }
    const bytes = new Uint8Array(end - start);
    source.seekSync(start, Deno.SeekMode.Start);
    for (let done = 0; done < bytes.length;) {
      const count = source.readSync(bytes.subarray(done));
      if (count === null) throw fail(`it ends before byte ${end}`);
      done += count;
    }
    return bytes.buffer;
  }
  const file = { byteLength, slice };
  const reading = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (error) {
      if (error instanceof InvalidFile) throw error;
      throw fail(`${error instanceof Error ? error.message : error}. Is it whole?`);
    }
  };

  // Looking for geometry columns never ends on some damaged schemas.
  const metadata = await reading(() => parquetMetadataAsync(file, { geoparquet: false }));
  checkSchema(metadata.schema, fail);
  const groups = metadata.row_groups.map((group) => ({
    rows: Number(group.num_rows),
    sizeBytes: Number(group.total_byte_size),
    columns: group.columns,
  }));
  let total = 0;
  for (const [index, group] of groups.entries()) {
    if (!(group.rows >= 0)) throw fail(`row group ${index} has ${group.rows} rows`);
    total += group.rows;
    if (total > limits.maxRecords) {
      throw fail(`it has more than ${limits.maxRecords} rows, the limit; split it`);
    }
    if (!(group.sizeBytes <= limits.maxGroupBytes)) {
      throw fail(
        `row group ${index} unpacks to ${group.sizeBytes} bytes, the limit is ${limits.maxGroupBytes}; write smaller row groups`,
      );
    }
    for (const { meta_data: column } of group.columns) {
      if (!column) continue;
      const start = Number(column.dictionary_page_offset ?? column.data_page_offset);
      const end = start + Number(column.total_compressed_size);
      if (!(start >= 0 && end >= start && end <= byteLength)) {
        throw fail(
          `column ${
            column.path_in_schema.join(".")
          } of row group ${index} lies at bytes ${start} to ${end}, the file has ${byteLength}`,
        );
      }
    }
  }
  if (total !== Number(metadata.num_rows)) {
    throw fail(`its row groups hold ${total} rows, its footer says ${metadata.num_rows}`);
  }

  let rowStart = 0;
  for (const { rows } of groups) {
    const rowEnd = rowStart + rows;
    const read = await reading(() =>
      parquetReadObjects({ file, metadata, compressors, geoparquet: false, rowStart, rowEnd })
    );
    if (read.length !== rows) {
      throw fail(`rows ${rowStart} to ${rowEnd} are wanted, ${read.length} were there`);
    }
    yield read.map((row) => plain(row) as Record<string, unknown>);
    rowStart = rowEnd;
  }
}

/** Checks that the flat list of schema elements is one tree. */
function checkSchema(schema: SchemaElement[], fail: (what: string) => Error) {
  const depthLimit = 32;
  function end(index: number, depth: number): number {
    const element = schema[index];
    const children = element?.num_children ?? 0;
    if (!element || children < 0 || depth > depthLimit) throw fail("its schema is damaged");
    let next = index + 1;
    for (let child = 0; child < children; child++) next = end(next, depth + 1);
    return next;
  }
  if (end(0, 0) !== schema.length) throw fail("its schema is damaged");
}
