// GGUF (versions 2 and 3, little-endian): magic, counts, metadata, tensor table, then aligned data.
// Format: ggml's docs/gguf.md. Own parser because @huggingface/gguf pads a header that is cut short with
// zeros and reads on (a truncated file parses), and knows neither block sizes nor tensor extents. Here every
// count is held against the bytes that are left before anything is allocated for it.
// Left out: big-endian files, version 1, models split over several files.

import { InvalidFile } from "../errors.ts";
import { type BlockFormat, blockFormats } from "./gguf_blocks.ts";
import { PositionedFile } from "./positioned_file.ts";

/** Numbers of all types are plain numbers (beyond 2^53 they lose digits, which no field here needs). */
export type GgufValue = number | boolean | string | GgufArray;
export type GgufArray = ArrayLike<number> | string[] | GgufArray[];

/** A tensor of the table; `shape` is row-major, the reverse of the file's order. */
export interface GgufTensor {
  shape: number[];
  format: BlockFormat;
  begin: number;
  end: number;
}

/** An open GGUF file. */
export interface GgufFile {
  path: string;
  metadata: ReadonlyMap<string, GgufValue>;
  tensors: ReadonlyMap<string, GgufTensor>;
  /** The stored bytes of a tensor, or of another range of the file; blocks are not yet expanded. */
  readBytes(range: Pick<GgufTensor, "begin" | "end">): Uint8Array<ArrayBuffer>;
  close(): void;
}

/**
 * Opens a file and checks its header and tensor table.
 * @param skipLists leave out metadata that are long lists: tokens, merges, scores
 * @throws {InvalidFile} when it is truncated, lying or of a kind not read here
 */
export function openGgufFile(
  path: string,
  { skipLists = false }: { skipLists?: boolean } = {},
): GgufFile {
  const file = PositionedFile.open(path);
  try {
    const { metadata, tensors } = parse(new Cursor(file), skipLists);
    const readBytes = ({ begin, end }: Pick<GgufTensor, "begin" | "end">) =>
      file.read(begin, end - begin);
    return { path, metadata, tensors, readBytes, close: () => file.close() };
  } catch (error) {
    file.close();
    throw error;
  }
}

function parse(
  cursor: Cursor,
  skipLists: boolean,
): { metadata: Map<string, GgufValue>; tensors: Map<string, GgufTensor> } {
  if (cursor.remaining < 24 || cursor.u32() !== 0x46554747) {
    throw cursor.error("it does not begin with GGUF; it is another kind of file");
  }
  const version = cursor.u32();
  if (version !== 2 && version !== 3) {
    const bigEndian = (version & 0xffff) === 0;
    throw cursor.error(
      bigEndian
        ? "it is big-endian; convert it with gguf-py's gguf_convert_endian"
        : `it has version ${version}, wanted 2 or 3`,
    );
  }
  // The least a tensor's or a field's entry takes: a name's length, a type and the smallest value.
  const tensorCount = cursor.count("tensors", 24);
  const fieldCount = cursor.count("metadata fields", 13);
  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < fieldCount; i++) {
    const key = cursor.string("a metadata key");
    if (metadata.has(key)) throw cursor.error(`metadata field ${key} is there twice`);
    const value = readValue(cursor, key, cursor.u32(), skipLists ? shortList : Infinity);
    if (value !== null) metadata.set(key, value);
  }
  const splits = metadata.get("split.count");
  if (typeof splits === "number" && splits > 1) {
    throw cursor.error(`it is one of ${splits} parts; join them with llama-gguf-split --merge`);
  }
  const tensors = readTable(cursor, tensorCount, readAlignment(cursor, metadata));
  return { metadata, tensors };
}

function readAlignment(cursor: Cursor, metadata: Map<string, GgufValue>): number {
  const alignment = metadata.get("general.alignment") ?? 32;
  const powerOfTwo = typeof alignment === "number" && alignment >= 1 && alignment <= 1 << 20 &&
    Number.isInteger(Math.log2(alignment));
  if (!powerOfTwo) {
    throw cursor.error(`general.alignment is ${String(alignment)}, wanted a power of two`);
  }
  return alignment;
}

function readTable(cursor: Cursor, count: number, alignment: number): Map<string, GgufTensor> {
  const tensors = new Map<string, GgufTensor>();
  for (let i = 0; i < count; i++) {
    const name = cursor.string("a tensor's name");
    if (tensors.has(name)) throw cursor.error(`tensor ${name} is there twice`);
    const rank = cursor.u32();
    if (rank > 4) {
      throw cursor.error(`tensor ${name} has ${rank} dimensions, at most 4 are allowed`);
    }
    const sizes = Array.from({ length: rank }, () => cursor.u64());
    const type = cursor.u32();
    const format = blockFormats.get(type);
    if (!format) {
      const known = [...blockFormats.values()].map((f) => f.name).join(", ");
      throw cursor.error(`tensor ${name} has ggml type ${type}; ${known} are read here`);
    }
    const offset = cursor.u64();
    const elements = sizes.reduce((product, size) => product * size, 1);
    const row = sizes[0] ?? 1;
    if (row % format.elements !== 0) {
      throw cursor.error(
        `tensor ${name} has rows of ${row}, not a multiple of ${format.name}'s ${format.elements}`,
      );
    }
    if (offset % alignment !== 0) {
      throw cursor.error(`tensor ${name} begins at ${offset}, not a multiple of ${alignment}`);
    }
    const bytes = elements / format.elements * format.bytes;
    tensors.set(name, { shape: sizes.reverse(), format, begin: offset, end: offset + bytes });
  }
  placeTensors(cursor, tensors, alignment);
  return tensors;
}

/** Turns offsets in the data into positions in the file, and checks that each tensor has its own bytes. */
function placeTensors(cursor: Cursor, tensors: Map<string, GgufTensor>, alignment: number): void {
  const dataStart = Math.ceil(cursor.position / alignment) * alignment;
  let before = dataStart;
  const inOrder = [...tensors].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  for (const [name, tensor] of inOrder) {
    tensor.begin += dataStart;
    tensor.end += dataStart;
    if (tensor.begin < before) {
      throw cursor.error(
        `tensor ${name} begins at byte ${tensor.begin}, the one before it ends at ${before}`,
      );
    }
    if (!(tensor.end <= cursor.sizeBytes)) {
      throw cursor.error(
        `tensor ${name} of shape (${
          tensor.shape.join(", ")
        }) ends at byte ${tensor.end}, the file has ${cursor.sizeBytes}; it is truncated, copy it again`,
      );
    }
    before = tensor.end;
  }
}

/** What holds the numbers and booleans of metadata types 0 to 7; the rest have 8 bytes. */
const numberArrays = [
  Uint8Array,
  Int8Array,
  Uint16Array,
  Int16Array,
  Uint32Array,
  Int32Array,
  Float32Array,
  Uint8Array,
];

/** The least bytes a value of each metadata type takes. */
const valueBytes = [1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8];

/** Entries of one list, tensors or fields: more than any vocabulary's. */
const maxEntries = 2 ** 24;
/** Bytes of a key, a token or a template. */
const maxStringBytes = 2 ** 22;
/** A list with an entry for each layer is no longer than this. */
const shortList = 1024;

/** A value, or null for a list of more than `longest` entries, which is passed over. */
function readValue(
  cursor: Cursor,
  key: string,
  type: number,
  longest: number,
): GgufValue | null {
  switch (type) {
    case 0:
      return cursor.u8();
    case 1:
      return cursor.i8();
    case 2:
      return cursor.u16();
    case 3:
      return cursor.i16();
    case 4:
      return cursor.u32();
    case 5:
      return cursor.i32();
    case 6:
      return cursor.f32();
    case 7:
      return cursor.u8() !== 0;
    case 8:
      return cursor.string(key);
    case 9:
      return readArray(cursor, key, longest, 0);
    case 10:
      return cursor.u64();
    case 11:
      return cursor.i64();
    case 12:
      return cursor.f64();
    default:
      throw cursor.error(`metadata field ${key} has type ${type}, wanted 0 to 12`);
  }
}

function readArray(
  cursor: Cursor,
  key: string,
  longest: number,
  depth: number,
): GgufArray | null {
  const type = cursor.u32();
  if (type > 12) throw cursor.error(`metadata field ${key} holds type ${type}, wanted 0 to 12`);
  if (depth > 2) {
    throw cursor.error(`metadata field ${key} is nested ${depth + 1} deep, at most 3 are read`);
  }
  const count = cursor.count(`entries of ${key}`, valueBytes[type]);
  if (count > longest) {
    skipEntries(cursor, key, type, count);
    return null;
  }
  if (type === 8) return Array.from({ length: count }, () => cursor.string(key));
  if (type === 9) {
    return Array.from({ length: count }, () => readArray(cursor, key, Infinity, depth + 1)!);
  }
  // As wide as in the file, so that a lying count takes no more memory than the file has bytes.
  const numbers = new (numberArrays[type] ?? Float64Array)(count);
  for (let i = 0; i < count; i++) numbers[i] = Number(readValue(cursor, key, type, longest));
  return numbers;
}

function skipEntries(cursor: Cursor, key: string, type: number, count: number): void {
  if (type === 9) throw cursor.error(`metadata field ${key} holds ${count} lists, at most 1024`);
  if (type !== 8) return cursor.skip(count * valueBytes[type]);
  for (let i = 0; i < count; i++) cursor.skip(cursor.count(`bytes of ${key}`, 1, maxStringBytes));
}

/** Reads a file from its start in pieces; every read past the end is an InvalidFile. */
class Cursor {
  private piece = new Uint8Array(0);
  private view = new DataView(new ArrayBuffer(0));
  private pieceStart = 0;
  position = 0;

  constructor(private readonly file: PositionedFile) {}

  get sizeBytes(): number {
    return this.file.sizeBytes;
  }

  get remaining(): number {
    return this.file.sizeBytes - this.position;
  }

  u8(): number {
    const at = this.take(1);
    return this.view.getUint8(at);
  }
  i8(): number {
    const at = this.take(1);
    return this.view.getInt8(at);
  }
  u16(): number {
    const at = this.take(2);
    return this.view.getUint16(at, true);
  }
  i16(): number {
    const at = this.take(2);
    return this.view.getInt16(at, true);
  }
  u32(): number {
    const at = this.take(4);
    return this.view.getUint32(at, true);
  }
  i32(): number {
    const at = this.take(4);
    return this.view.getInt32(at, true);
  }
  f32(): number {
    const at = this.take(4);
    return this.view.getFloat32(at, true);
  }
  f64(): number {
    const at = this.take(8);
    return this.view.getFloat64(at, true);
  }
  u64(): number {
    const at = this.take(8);
    return Number(this.view.getBigUint64(at, true));
  }
  i64(): number {
    const at = this.take(8);
    return Number(this.view.getBigInt64(at, true));
  }

  /** A u64 that counts things of at least `leastBytes` each, which must still fit in the file. */
  count(things: string, leastBytes: number, most = maxEntries): number {
    const count = this.u64();
    if (count > most) throw this.error(`it claims ${count} ${things}, at most ${most} are read`);
    if (count * leastBytes > this.remaining) {
      throw this.error(
        `it claims ${count} ${things}, the ${this.remaining} bytes left cannot hold them; it is truncated or damaged`,
      );
    }
    return count;
  }

  /** Passes over bytes; they are read only where what follows shares a piece with them. */
  skip(length: number): void {
    if (length > this.remaining) throw this.endsEarly();
    this.position += length;
  }

  string(what: string): string {
    const length = this.count(`bytes of ${what}`, 1, maxStringBytes);
    const at = this.take(length);
    return decoder.decode(this.piece.subarray(at, at + length));
  }

  error(found: string): InvalidFile {
    return new InvalidFile(`Cannot read ${this.file.path} as GGUF: ${found}`);
  }

  private endsEarly(): InvalidFile {
    return this.error("its header ends in the middle of a value; it is truncated, copy it again");
  }

  /** Moves on by `length` bytes; returns where they begin in `piece`. */
  private take(length: number): number {
    if (length > this.remaining) throw this.endsEarly();
    const at = this.position - this.pieceStart;
    this.position += length;
    if (at + length <= this.piece.byteLength) return at;
    this.pieceStart = this.position - length;
    const wanted = Math.min(Math.max(length, 1 << 20), this.file.sizeBytes - this.pieceStart);
    this.piece = this.file.read(this.pieceStart, wanted);
    this.view = new DataView(this.piece.buffer);
    return 0;
  }
}

const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
