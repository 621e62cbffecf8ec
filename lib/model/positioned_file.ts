// A file read by position, so that weights are never held whole. Every read is checked against
// the file's size before memory is taken; the reads themselves block (they run in the Worker),
// which keeps two readers of one file from moving each other's position.

import { InvalidFile } from "../errors.ts";

/** An open file of known size. */
export class PositionedFile {
  private constructor(
    readonly path: string,
    readonly sizeBytes: number,
    private readonly file: Deno.FsFile,
  ) {}

  /** Opens a regular file for reading. @throws {InvalidFile} when it is missing or not a file. */
  static open(path: string): PositionedFile {
    let file: Deno.FsFile;
    try {
      file = Deno.openSync(path, { read: true });
    } catch (error) {
      throw new InvalidFile(`Cannot open ${path}: ${reason(error)}`);
    }
    const info = file.statSync();
    if (!info.isFile) {
      file.close();
      throw new InvalidFile(`Cannot open ${path}: it is not a regular file`);
    }
    return new PositionedFile(path, info.size, file);
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

/** The JSON object in a file. @throws {InvalidFile} when it is missing or no JSON object. */
export function readJsonObject(path: string): Record<string, unknown> {
  const text = readTextIfPresent(path);
  if (text === null) throw new InvalidFile(`Cannot open ${path}: no such file`);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new InvalidFile(`Cannot read ${path} as JSON: ${reason(error)}`);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new InvalidFile(`Cannot use ${path}: its top level must be a JSON object`);
  }
  return value as Record<string, unknown>;
}

/** The text of a file, or null when there is none. @throws {InvalidFile} when it cannot be read. */
export function readTextIfPresent(path: string): string | null {
  try {
    return Deno.readTextFileSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return null;
    throw new InvalidFile(`Cannot read ${path}: ${reason(error)}`);
  }
}

/** Whether a file is there. */
export function isFile(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}

/** The text of an error, whatever was thrown. */
export function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
