// Files of a model or adapter: weights read by position, so that they are never held whole, and small
// files read at once. Every read is checked against the file's size before memory is taken; the reads
// themselves block (they run in a Worker), which keeps two readers of one file from moving each other's
// position. Whatever is no regular file is refused before it is opened: opening a FIFO blocks for ever.

import { InvalidFile } from "../errors.ts";
import { parseJson } from "../json_text.ts";

/** The most bytes of a config, an index or a template; those of released models have kilobytes. */
const maxSmallFileBytes = 4 * 2 ** 20;

/** An open file of known size. */
export class PositionedFile {
  private constructor(
    readonly path: string,
    readonly sizeBytes: number,
    private readonly file: Deno.FsFile,
  ) {}

  /** Opens a regular file for reading. @throws {InvalidFile} when it is missing or not a file. */
  static open(path: string): PositionedFile {
    try {
      const sizeBytes = regularFileSize(path);
      return new PositionedFile(path, sizeBytes, Deno.openSync(path, { read: true }));
    } catch (error) {
      if (error instanceof InvalidFile) throw error;
      throw new InvalidFile(`Cannot open ${path}: ${reason(error)}`);
    }
  }

  /** `length` bytes from `offset`, in a buffer of their own. @throws {InvalidFile} past the end. */
  read(offset: number, length: number): Uint8Array<ArrayBuffer> {
    if (offset < 0 || length < 0 || offset + length > this.sizeBytes) {
      throw new InvalidFile(
        `Cannot read ${length} bytes at ${offset} of ${this.path}: the file has ${this.sizeBytes} bytes; it is truncated, copy it again`,
      );
    }
    const bytes = new Uint8Array(length);
    this.file.seekSync(offset, Deno.SeekMode.Start);
    for (let done = 0; done < length;) {
      const count = this.file.readSync(bytes.subarray(done));
      if (count === null) {
        throw new InvalidFile(
          `Cannot read ${length} bytes at ${offset} of ${this.path}: the file became shorter while it was open`,
        );
      }
      done += count;
    }
    return bytes;
  }

  close(): void {
    this.file.close();
  }
}

/**
 * The JSON object in a file of at most `maxBytes`.
 * @throws {InvalidFile} when it is missing, too large, nested too deep or no JSON object
 */
export function readJsonObject(
  path: string,
  maxBytes = maxSmallFileBytes,
): Record<string, unknown> {
  const text = readTextIfPresent(path, maxBytes);
  if (text === null) throw new InvalidFile(`Cannot open ${path}: no such file`);
  let value: unknown;
  try {
    value = parseJson(text);
  } catch (error) {
    throw new InvalidFile(`Cannot read ${path} as JSON: ${reason(error)}`);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new InvalidFile(`Cannot use ${path}: its top level must be a JSON object`);
  }
  return value as Record<string, unknown>;
}

/**
 * The text of a file of at most `maxBytes`, or null when there is none.
 * @throws {InvalidFile} when it cannot be read, is too large or is not UTF-8
 */
export function readTextIfPresent(path: string, maxBytes = maxSmallFileBytes): string | null {
  try {
    const sizeBytes = regularFileSize(path);
    if (sizeBytes > maxBytes) {
      throw new InvalidFile(
        `Cannot read ${path}: it has ${sizeBytes} bytes, at most ${maxBytes} are read of such a file`,
      );
    }
    return new TextDecoder("utf-8", { fatal: true }).decode(Deno.readFileSync(path));
  } catch (error) {
    if (error instanceof InvalidFile) throw error;
    if (error instanceof Deno.errors.NotFound) return null;
    const found = error instanceof TypeError ? "its text is not UTF-8" : reason(error);
    throw new InvalidFile(`Cannot read ${path}: ${found}`);
  }
}

/** Bytes of a regular file. @throws {InvalidFile} when it is of another kind; what `Deno.statSync` throws */
function regularFileSize(path: string): number {
  const info = Deno.statSync(path);
  if (!info.isFile) {
    const kind = info.isDirectory ? "a folder" : info.isFifo ? "a FIFO" : "a device or socket";
    throw new InvalidFile(`Cannot open ${path}: it is ${kind}, wanted a regular file`);
  }
  return info.size;
}

/** Whether a regular file is there. */
export function isFile(path: string): boolean {
  return fileSize(path) !== null;
}

/** Bytes of a regular file, or null when there is none that can be looked at. */
export function fileSize(path: string): number | null {
  try {
    return regularFileSize(path);
  } catch {
    return null;
  }
}

/** The text of an error, whatever was thrown. */
export function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
