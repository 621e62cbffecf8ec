// The footer of a Parquet file: its schema and where each row group keeps each column. Everything it
// says is checked against the file's size and against itself before a page is read.
// Left out on purpose: encrypted files, columns in other files, and VARIANT values, in which a few bytes
// can stand for many objects.

import { parquetMetadata, parquetSchema, type SchemaElement } from "hyparquet";
import { getTreePath } from "hyparquet/src/schema.js";
import { deserializeTCompactProtocol } from "hyparquet/src/thrift.js";
import type { MemoryBudget } from "./memory_budget.ts";
import type { Column } from "./parquet_pages.ts";
import { maxDecimalBytes } from "./parquet_values.ts";
import { structEnd } from "./thrift.ts";

type SchemaTree = ReturnType<typeof parquetSchema>;
type Thrift = ReturnType<typeof deserializeTCompactProtocol>;

/** A column of one row group, at bytes [start, end) of the file. */
export interface Chunk extends Column {
  start: number;
  end: number;
}

export interface Footer {
  /** The schema; its children are the fields of a record. */
  schema: SchemaTree;
  groups: { rows: number; chunks: Chunk[] }[];
}

const maxSchemaDepth = 32;
const maxFixedBytes = 2 ** 20;
/** The length of the footer and "PAR1", which end the file. */
export const trailerBytes = 8;

/** Bytes of the footer, by the file's last eight. @throws {Error} when it is no Parquet file. */
export function footerLength(trailer: Uint8Array, fileBytes: number): number {
  const magic = new TextDecoder().decode(trailer.subarray(4));
  if (magic === "PARE") throw new Error("it is encrypted");
  if (magic !== "PAR1") throw new Error('it does not end with "PAR1"');
  const length = new DataView(trailer.buffer, trailer.byteOffset).getUint32(0, true);
  if (length + trailerBytes > fileBytes) {
    throw new Error(`its footer should have ${length} bytes, the file has ${fileBytes}`);
  }
  return length;
}

/**
 * Reads a footer.
 * @param bytes the footer and the trailer
 * @throws {Error} when it is damaged, or says what does not fit the file.
 */
export function parseFooter(bytes: Uint8Array, fileBytes: number, budget: MemoryBudget): Footer {
  structEnd(bytes.subarray(0, bytes.length - trailerBytes), 0, budget);
  checkDecimalStatistics(bytes);
  // Looking for geometry columns never ends on some damaged schemas.
  const metadata = parquetMetadata(bytes, { geoparquet: false });
  checkSchemaList(metadata.schema, budget);
  const schema = parquetSchema(metadata);
  const columns = leaves(schema).map(({ path, element }) => {
    checkColumn(path, element);
    return { path, element, schemaPath: getTreePath(schema, path) };
  });

  let storedBytes = 0, totalRows = 0;
  const groups = metadata.row_groups.map((group, index) => {
    const rows = count(group.num_rows, `the rows of row group ${index + 1}`);
    totalRows += rows;
    if (group.columns.length !== columns.length) {
      throw new Error(
        `row group ${index + 1} has ${group.columns.length} columns, its schema ${columns.length}`,
      );
    }
    const chunks = columns.map((column, i): Chunk => {
      const name = `column ${column.path.join(".")} of row group ${index + 1}`;
      const { meta_data: stored, file_path } = group.columns[i];
      if (!stored || file_path) throw new Error(`${name} is not in this file`);
      if (stored.path_in_schema.join("\0") !== column.path.join("\0")) {
        throw new Error(`${name} is called ${stored.path_in_schema.join(".")} where it is stored`);
      }
      const valueCount = count(stored.num_values, `the values of ${name}`);
      const isFlat = column.path.length === 1 && column.element.repetition_type !== "REPEATED";
      if (isFlat ? valueCount !== rows : valueCount < rows) {
        throw new Error(`${name} has ${valueCount} values for ${rows} rows`);
      }
      const start = count(
        stored.dictionary_page_offset || stored.data_page_offset,
        `the offset of ${name}`,
      );
      const length = count(stored.total_compressed_size, `the size of ${name}`);
      if (start + length > fileBytes) {
        throw new Error(
          `${name} lies at bytes ${start} to ${start + length}, the file has ${fileBytes}`,
        );
      }
      storedBytes += length;
      return { ...column, codec: stored.codec, valueCount, start, end: start + length };
    });
    return { rows, chunks };
  });
  // Columns that share bytes would make a small file a large one.
  if (storedBytes > fileBytes) {
    throw new Error(`its columns have ${storedBytes} bytes, the file has ${fileBytes}`);
  }
  const statedRows = count(metadata.num_rows, "its number of rows");
  if (totalRows !== statedRows) {
    throw new Error(`its row groups hold ${totalRows} rows, its footer says ${statedRows}`);
  }
  return { schema, groups };
}

/** A count, size or offset, where a damaged footer may hold anything. */
function count(value: unknown, name: string): number {
  const number = typeof value === "bigint" || typeof value === "number" ? Number(value) : NaN;
  if (Number.isSafeInteger(number) && number >= 0) return number;
  throw new Error(`${name} should be a count, ${typeof value === "object" ? "no number" : value}`);
}

/** Checks that the flat list of schema elements is one tree, and its paths tell its nodes apart. */
function checkSchemaList(schema: SchemaElement[], budget: MemoryBudget): void {
  const damaged = new Error("its schema is damaged");
  const paths = new Set<string>();
  function end(index: number, depth: number, parent: string): number {
    const element = schema[index];
    const children = element?.num_children ?? 0;
    if (!element || !Number.isSafeInteger(children) || children < 0) throw damaged;
    if (typeof element.name !== "string" || depth > maxSchemaDepth) throw damaged;
    if (element.logical_type?.type === "VARIANT") {
      throw new Error(`column ${element.name} holds VARIANT values, which are not read; drop it`);
    }
    const path = depth === 0 ? "" : depth === 1 ? element.name : `${parent}.${element.name}`;
    budget.spend(path.length);
    if (paths.has(path)) throw new Error(`its schema has the column "${path}" twice`);
    paths.add(path);
    let next = index + 1;
    for (let child = 0; child < children; child++) next = end(next, depth + 1, path);
    return next;
  }
  if (end(0, 0, "") !== schema.length) throw damaged;
}

function leaves(tree: SchemaTree): SchemaTree[] {
  return tree.children.length === 0 ? [tree] : tree.children.flatMap(leaves);
}

function checkColumn(path: string[], { type, type_length, converted_type }: SchemaElement): void {
  const name = path.join(".");
  if (path.length === 0) throw new Error("its schema has no columns");
  if (!type) throw new Error(`column ${name} has no type`);
  if (type === "FIXED_LEN_BYTE_ARRAY") {
    const max = converted_type === "DECIMAL" ? maxDecimalBytes : maxFixedBytes;
    if (!(count(type_length, `the length of ${name}`) <= max)) {
      throw new Error(`column ${name} holds values of ${type_length} bytes, the limit is ${max}`);
    }
  }
}

/** Checks what hyparquet would turn into numbers in time that grows with the square of the length. */
function checkDecimalStatistics(bytes: Uint8Array): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  // By the field numbers of parquet.thrift.
  const { field_2: schema, field_4: groups } = deserializeTCompactProtocol({ view, offset: 0 });
  const decimal = 5;
  const isDecimal = schema.filter((element: Thrift) => element.field_1 !== undefined)
    .map((element: Thrift) => element.field_6 === decimal);
  for (const group of groups) {
    for (const [i, column] of group.field_1.entries()) {
      if (!isDecimal[i]) continue;
      const { field_1, field_2, field_5, field_6 } = column.field_3?.field_12 ?? {};
      for (const value of [field_1, field_2, field_5, field_6]) {
        if (value?.length > maxDecimalBytes) {
          throw new Error("the statistics of a decimal are long");
        }
      }
    }
  }
}
