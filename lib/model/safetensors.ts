// Safetensors: 8 bytes of header length, a JSON header, then the tensors' bytes without gaps.
// Format: the safetensors crate's own rules (no overlap, no holes), but a header of at most 16 MiB where
// the crate takes 100 MB: a model of 1,000 layers has 2 MB, and ten times that blocks a thread for long.
// The reader checks every count, offset and size against the file's size before it takes memory, and
// reads one tensor at a time. One format for weights, adapters, partitions and golden test values.

import { InvalidFile } from "../errors.ts";
import { parseJson } from "../json_text.ts";
import { type FloatType, toFloat32 } from "./floats.ts";
import { PositionedFile, reason } from "./positioned_file.ts";

/** Bytes of one element, by the type's name in the header. */
export const elementBytes = {
  F64: 8,
  I64: 8,
  U64: 8,
  F32: 4,
  I32: 4,
  U32: 4,
  F16: 2,
  BF16: 2,
  I16: 2,
  U16: 2,
  I8: 1,
  U8: 1,
  BOOL: 1,
} as const;
export type ElementType = keyof typeof elementBytes;

const maxHeaderBytes = 16 * 2 ** 20;
/** An object of entries, each with lists of numbers. */
const headerDepth = 3;

/** Where a tensor lies: `begin` and `end` count from the file's first byte. */
export interface TensorEntry {
  dtype: ElementType;
  shape: number[];
  begin: number;
  end: number;
}

/** A tensor read into memory, row-major. */
export interface RawTensor {
  dtype: ElementType;
  shape: number[];
  bytes: Uint8Array<ArrayBuffer>;
}

/** An open safetensors file. */
export interface SafetensorsFile {
  path: string;
  tensors: ReadonlyMap<string, TensorEntry>;
  metadata: Record<string, string>;
  /** Reads one tensor. @throws {InvalidFile} when there is none of that name. */
  read(name: string): RawTensor;
  /** `length` bytes from the file's byte `begin`. @throws {InvalidFile} past the file's end. */
  readBytes(begin: number, length: number): Uint8Array<ArrayBuffer>;
  /** Reads one F32, F16 or BF16 tensor as f32. @throws {InvalidFile} when it is missing or no float. */
  readFloat32(name: string): { shape: number[]; data: Float32Array<ArrayBuffer> };
  close(): void;
}

/** Opens a file and checks its header. @throws {InvalidFile} when it is missing, truncated or lying. */
export function openSafetensors(path: string): SafetensorsFile {
  const file = PositionedFile.open(path);
  try {
    const { tensors, metadata } = readHeader(file);
    const read = (name: string): RawTensor => {
      const entry = tensors.get(name);
      if (!entry) {
        throw new InvalidFile(`Cannot read tensor ${name}: ${path} has none of that name`);
      }
      const bytes = file.read(entry.begin, entry.end - entry.begin);
      return { dtype: entry.dtype, shape: [...entry.shape], bytes };
    };
    const readFloat32 = (name: string) => {
      const { dtype, shape, bytes } = read(name);
      const float = floatType(dtype);
      if (!float) {
        throw new InvalidFile(
          `Cannot read tensor ${name} of ${path} as floats: it is ${dtype}, wanted F32, F16 or BF16`,
        );
      }
      return { shape, data: toFloat32({ dtype: float, bytes }) };
    };
    const readBytes = (begin: number, length: number) => file.read(begin, length);
    return { path, tensors, metadata, read, readBytes, readFloat32, close: () => file.close() };
  } catch (error) {
    file.close();
    throw error;
  }
}

/** Our name of a float type, or null for any other type. */
export function floatType(dtype: ElementType): FloatType | null {
  return dtype === "F32" ? "f32" : dtype === "F16" ? "f16" : dtype === "BF16" ? "bf16" : null;
}

function readHeader(
  file: PositionedFile,
): { tensors: Map<string, TensorEntry>; metadata: Record<string, string> } {
  const where = file.path;
  if (file.sizeBytes < 8) {
    throw new InvalidFile(
      `Cannot read ${where} as safetensors: it has ${file.sizeBytes} bytes, the header alone needs 8; copy it again`,
    );
  }
  const headerBytes = Number(new DataView(file.read(0, 8).buffer).getBigUint64(0, true));
  if (headerBytes > Math.min(maxHeaderBytes, file.sizeBytes - 8)) {
    throw new InvalidFile(
      `Cannot read ${where} as safetensors: its header claims ${headerBytes} bytes of a file of ${file.sizeBytes} (at most ${maxHeaderBytes}); it is truncated or another format`,
    );
  }
  let header: unknown;
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(file.read(8, headerBytes));
    header = parseJson(text, headerDepth);
  } catch (error) {
    throw new InvalidFile(
      `Cannot read ${where} as safetensors: its header is no JSON: ${reason(error)}`,
    );
  }
  if (!isObject(header)) {
    throw new InvalidFile(`Cannot read ${where} as safetensors: its header is no JSON object`);
  }
  const dataStart = 8 + headerBytes;
  const tensors = new Map<string, TensorEntry>();
  let metadata: Record<string, string> = {};
  for (const [name, value] of Object.entries(header)) {
    if (name === "__metadata__") metadata = readMetadata(value, where);
    else tensors.set(name, readEntry(name, value, dataStart, file));
  }
  checkNoGaps(tensors, dataStart, file);
  return { tensors, metadata };
}

function readMetadata(value: unknown, where: string): Record<string, string> {
  if (!isObject(value) || !Object.values(value).every((text) => typeof text === "string")) {
    throw new InvalidFile(`Cannot read ${where}: __metadata__ must map names to strings`);
  }
  return value as Record<string, string>;
}

function readEntry(
  name: string,
  value: unknown,
  dataStart: number,
  file: PositionedFile,
): TensorEntry {
  const fail = (found: string) =>
    new InvalidFile(`Cannot read tensor ${name} of ${file.path}: ${found}`);
  if (!isObject(value)) throw fail("its header entry is no object");
  const { dtype, shape, data_offsets: offsets } = value;
  if (typeof dtype !== "string" || !Object.hasOwn(elementBytes, dtype)) {
    throw fail(
      `element type ${JSON.stringify(dtype)} is not one of ${Object.keys(elementBytes).join(", ")}`,
    );
  }
  if (!Array.isArray(shape) || !shape.every(isCount)) {
    throw fail(`shape ${JSON.stringify(shape)} is no list of sizes`);
  }
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount)) {
    throw fail(`data_offsets ${JSON.stringify(offsets)} are no two offsets`);
  }
  const [begin, end] = offsets;
  const wanted = shape.reduce(
    (product, size) => product * size,
    elementBytes[dtype as ElementType],
  );
  if (end - begin !== wanted) {
    throw fail(
      `${dtype} of shape (${shape.join(", ")}) needs ${wanted} bytes, its offsets hold ${
        end - begin
      }`,
    );
  }
  if (dataStart + end > file.sizeBytes) {
    throw fail(
      `it ends at byte ${
        dataStart + end
      }, the file has ${file.sizeBytes}; the file is truncated, copy it again`,
    );
  }
  return { dtype: dtype as ElementType, shape, begin: dataStart + begin, end: dataStart + end };
}

function checkNoGaps(tensors: Map<string, TensorEntry>, dataStart: number, file: PositionedFile) {
  let position = dataStart;
  const inOrder = [...tensors].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  for (const [name, { begin, end }] of inOrder) {
    if (begin !== position) {
      throw new InvalidFile(
        `Cannot read ${file.path}: tensor ${name} begins at byte ${begin}, the one before it ends at ${position}; tensors must neither overlap nor leave gaps`,
      );
    }
    position = end;
  }
  if (position !== file.sizeBytes) {
    throw new InvalidFile(
      `Cannot read ${file.path}: its tensors end at byte ${position}, the file has ${file.sizeBytes}; its header and its data do not belong together`,
    );
  }
}

/** What `writeSafetensors` takes: `bytes` is any view that holds the elements, row-major. */
export interface TensorToWrite {
  dtype: ElementType;
  shape: readonly number[];
  bytes: ArrayBufferView<ArrayBufferLike>;
}

/**
 * Writes tensors, then puts the file in its place in one step, so a reader never sees half of one.
 * Order as in the safetensors crate (wide elements first, then by name), so equal input gives equal bytes.
 * @throws {RangeError} when a shape does not fit its bytes.
 */
export async function writeSafetensors(
  path: string,
  tensors: ReadonlyMap<string, TensorToWrite>,
  metadata: Record<string, string> = {},
): Promise<void> {
  const inOrder = [...tensors].sort(([a, { dtype: x }], [b, { dtype: y }]) =>
    elementBytes[y] - elementBytes[x] || (a < b ? -1 : 1)
  );
  const header: Record<string, unknown> = Object.create(null);
  if (Object.keys(metadata).length > 0) header.__metadata__ = metadata;
  let position = 0;
  for (const [name, { dtype, shape, bytes }] of inOrder) {
    const wanted = shape.reduce((product, size) => product * size, elementBytes[dtype]);
    if (wanted !== bytes.byteLength) {
      throw new RangeError(
        `Cannot write tensor ${name}: ${dtype} of shape (${
          shape.join(", ")
        }) needs ${wanted} bytes, got ${bytes.byteLength}`,
      );
    }
    header[name] = { dtype, shape, data_offsets: [position, position + wanted] };
    position += wanted;
  }
  const json = new TextEncoder().encode(JSON.stringify(header));
  const headerBytes = Math.ceil(json.byteLength / 8) * 8;
  const start = new Uint8Array(8 + headerBytes).fill(0x20);
  new DataView(start.buffer).setBigUint64(0, BigInt(headerBytes), true);
  start.set(json, 8);

  const partial = `${path}.partial`;
  const file = await Deno.open(partial, { write: true, create: true, truncate: true });
  try {
    await writeAll(file, start);
    for (const [, { bytes }] of inOrder) {
      await writeAll(file, new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength));
    }
    await file.sync();
  } finally {
    file.close();
  }
  await Deno.rename(partial, path);
}

async function writeAll(file: Deno.FsFile, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.byteLength;) done += await file.write(bytes.subarray(done));
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
