// The values of one column chunk: its pages, each header, size and content checked, then decoded by
// hyparquet. hyparquet's own loop over pages is not used: a page header of zeros makes it read one byte
// for ever, and it decompresses before anything is known of the size.

import type { CompressionCodec, SchemaElement } from "hyparquet";
import { parquetHeader, readPage } from "hyparquet/src/column.js";
import { convert, DEFAULT_PARSERS } from "hyparquet/src/convert.js";
import { getMaxDefinitionLevel, getMaxRepetitionLevel } from "hyparquet/src/schema.js";
import { parseJson } from "../json_text.ts";
import type { MemoryBudget } from "./memory_budget.ts";
import { decompress } from "./parquet_codecs.ts";
import { bitWidth, checkRuns, checkValues, take, takePrefixed } from "./parquet_values.ts";
import { structEnd } from "./thrift.ts";

type Header = ReturnType<typeof parquetHeader>;
type Decoder = Parameters<typeof readPage>[2];
type Values = NonNullable<ReturnType<typeof readPage>["data"]>;

/** A column of the schema that holds values, and how one row group stores them. */
export interface Column {
  /** Names from the root to the column. */
  path: string[];
  schemaPath: Decoder["schemaPath"];
  element: SchemaElement;
  codec: CompressionCodec;
  /** Values and nulls of the chunk. */
  valueCount: number;
}

/** What a value takes on its way to a row, and each list around it. */
const valueBytes = 32;

const parsers = {
  ...DEFAULT_PARSERS,
  jsonFromBytes: (bytes?: Uint8Array) => bytes && parseJson(new TextDecoder().decode(bytes)),
};

/**
 * Decodes a column chunk: a value for each row, for nested columns in lists as deep as the schema.
 * @param bytes of the whole chunk
 * @throws {Error} when a page is damaged, or stands for more memory than the budget has left.
 */
export function readPages(bytes: Uint8Array, column: Column, budget: MemoryBudget): Values[] {
  const { path, schemaPath, element, codec, valueCount } = column;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const reader = { view, offset: 0 };
  const { type } = element;
  if (!type) throw new Error("its schema gives it no type");
  const decoder: Decoder = { pathInSchema: path, schemaPath, element, type, codec, parsers };
  let dictionary: Values | undefined;
  const chunks: Values[] = [];
  for (let seen = 0; seen < valueCount;) {
    structEnd(bytes, reader.offset, budget);
    const header = parquetHeader(reader);
    const page = checkPage(bytes, reader.offset, header, column, dictionary?.length, budget);
    seen += page.count;
    if (seen > valueCount) {
      throw new Error(`its pages hold more values than the ${valueCount} that its footer says`);
    }
    // What is unpacked already is what hyparquet's decompressor gives.
    const pageDecoder = { ...decoder, compressors: { [codec]: () => page.unpacked } };
    const { data } = readPage(reader, header, pageDecoder, dictionary, chunks.at(-1), 0);
    if (header.type === "DICTIONARY_PAGE") dictionary = convert(data!, decoder);
    else if (data !== chunks.at(-1)) chunks.push(data!);
  }
  return chunks;
}

interface CheckedPage {
  /** Values and nulls; none in a dictionary page. */
  count: number;
  /** What hyparquet wants of the codec: the whole page, in version 2 the values behind the levels. */
  unpacked: Uint8Array;
}

/** Checks the page whose body begins at `start`, and unpacks it. @throws {Error} as `readPages` */
function checkPage(
  bytes: Uint8Array,
  start: number,
  header: Header,
  { schemaPath, element, codec }: Column,
  dictionarySize: number | undefined,
  budget: MemoryBudget,
): CheckedPage {
  const packedSize = natural(header.compressed_page_size, "compressed size");
  const size = natural(header.uncompressed_page_size, "size");
  const packed = take({ bytes, at: start, end: bytes.length }, packedSize);
  const body = bytes.subarray(packed.at, packed.end);
  budget.spend(size);
  const maxDefinition = getMaxDefinitionLevel(schemaPath);
  const maxRepetition = getMaxRepetitionLevel(schemaPath);
  const spendValues = (count: number) => budget.spend(count * valueBytes * (1 + maxDefinition));
  const spanOf = (unpacked: Uint8Array) => ({ bytes: unpacked, at: 0, end: unpacked.length });

  if (header.type === "DICTIONARY_PAGE") {
    const count = natural(header.dictionary_page_header?.num_values, "count of values");
    if (dictionarySize !== undefined) throw new Error("a column has two dictionaries");
    spendValues(count);
    const unpacked = decompress(codec, body, size);
    checkValues(spanOf(unpacked), "PLAIN", count, { element, version: 1 }, budget);
    return { count: 0, unpacked };
  }

  if (header.type === "DATA_PAGE") {
    const page = header.data_page_header;
    const count = natural(page?.num_values, "count of values");
    spendValues(count);
    const unpacked = decompress(codec, body, size);
    const span = spanOf(unpacked);
    const countAtMax = (max: number, encoding?: string) => {
      if (max === 0) return count;
      if (encoding !== "RLE") throw new Error(`a page stores its levels as ${encoding}`);
      return checkRuns(takePrefixed(span), bitWidth(max), count, max);
    };
    countAtMax(maxRepetition, page?.repetition_level_encoding);
    const present = countAtMax(maxDefinition, page?.definition_level_encoding);
    checkValues(span, page?.encoding, present, { element, dictionarySize, version: 1 }, budget);
    return { count, unpacked };
  }

  if (header.type === "DATA_PAGE_V2") {
    const page = header.data_page_header_v2;
    const count = natural(page?.num_values, "count of values");
    const nulls = natural(page?.num_nulls, "count of nulls");
    natural(page?.num_rows, "count of rows");
    spendValues(count);
    const span = spanOf(body);
    const repetition = take(span, natural(page?.repetition_levels_byte_length, "length of levels"));
    const definition = take(span, natural(page?.definition_levels_byte_length, "length of levels"));
    if (maxRepetition > 0) checkRuns(repetition, bitWidth(maxRepetition), count, maxRepetition);
    const present = maxDefinition === 0
      ? count
      : checkRuns(definition, bitWidth(maxDefinition), count, maxDefinition);
    if (present !== count - nulls) {
      throw new Error(`a page holds ${count - present} nulls, its header says ${nulls}`);
    }
    const packedValues = body.subarray(span.at);
    const unpacked = page!.is_compressed === false
      ? packedValues
      : decompress(codec, packedValues, size - span.at);
    const context = { element, dictionarySize, version: 2 } as const;
    checkValues(spanOf(unpacked), page!.encoding, present, context, budget);
    return { count, unpacked };
  }

  throw new Error(`it has a page of type ${header.type}, which is not read`);
}

/** A count or size of a header, where a damaged one may hold anything. */
function natural(value: unknown, name: string): number {
  if (Number.isSafeInteger(value) && value as number >= 0) return value as number;
  throw new Error(`a page's ${name} is ${typeof value === "object" ? "no number" : value}`);
}
