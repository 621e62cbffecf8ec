// A tar archive (POSIX ustar) as a stream, for adapter downloads: 512-byte headers, each file padded to
// 512 bytes, two empty blocks at the end. The same files and time give the same bytes.
// Left out: folders as entries, links, files of 8 GiB and more.

/** One file of the archive: read from `path` when its turn comes, or given as `bytes`. */
export type TarFile =
  | { name: string; path: string }
  | { name: string; bytes: Uint8Array<ArrayBuffer> };

const blockBytes = 512;
const chunkBytes = 1 << 18;

/**
 * The archive, produced as it is read.
 * @param mtimeSeconds the time every entry carries, since 1970
 * @throws {RangeError} in the stream, when a name or size does not fit the format
 */
export function tarStream(
  files: readonly TarFile[],
  { mtimeSeconds = 0 }: { mtimeSeconds?: number } = {},
): ReadableStream<Uint8Array<ArrayBuffer>> {
  const pieces = archive(files, mtimeSeconds);
  return new ReadableStream({
    async pull(controller) {
      let piece = await pieces.next();
      while (!piece.done && piece.value.byteLength === 0) piece = await pieces.next();
      if (piece.done) controller.close();
      else controller.enqueue(piece.value);
    },
    async cancel() {
      await pieces.return(undefined);
    },
  });
}

async function* archive(
  files: readonly TarFile[],
  mtimeSeconds: number,
): AsyncGenerator<Uint8Array<ArrayBuffer>, undefined, undefined> {
  for (const file of files) {
    if ("bytes" in file) {
      yield header(file.name, file.bytes.byteLength, mtimeSeconds);
      yield file.bytes;
      yield padding(file.bytes.byteLength);
      continue;
    }
    using opened = await Deno.open(file.path, { read: true });
    const { size } = await opened.stat();
    yield header(file.name, size, mtimeSeconds);
    for (let left = size; left > 0;) {
      const chunk = new Uint8Array(Math.min(chunkBytes, left));
      const count = await opened.read(chunk);
      if (count === null) {
        throw new RangeError(`Cannot archive ${file.path}: it became shorter while it was read`);
      }
      left -= count;
      yield chunk.subarray(0, count);
    }
    yield padding(size);
  }
  yield new Uint8Array(2 * blockBytes);
}

function padding(sizeBytes: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array((blockBytes - sizeBytes % blockBytes) % blockBytes);
}

function header(name: string, sizeBytes: number, mtimeSeconds: number): Uint8Array<ArrayBuffer> {
  if (sizeBytes >= 8 ** 11) {
    throw new RangeError(`Cannot archive ${name}: ${sizeBytes} bytes, ustar holds less than 8 GiB`);
  }
  const block = new Uint8Array(blockBytes);
  const write = (text: string, at: number) => block.set(new TextEncoder().encode(text), at);
  const octal = (value: number, digits: number) => value.toString(8).padStart(digits, "0");
  const [start, rest] = splitName(name);
  write(rest, 0);
  write(octal(0o644, 7), 100);
  write(octal(0, 7), 108); // owner
  write(octal(0, 7), 116); // group
  write(octal(sizeBytes, 11), 124);
  write(octal(Math.floor(mtimeSeconds), 11), 136);
  write(" ".repeat(8), 148); // the checksum counts itself as spaces
  write("0", 156); // a regular file
  write("ustar\x0000", 257);
  write(start, 345);
  const checksum = block.reduce((sum, byte) => sum + byte, 0);
  write(`${octal(checksum, 6)}\x00 `, 148);
  return block;
}

/** A name of up to 100 bytes, or one cut at a slash into up to 155 and 100. */
function splitName(name: string): [string, string] {
  const bytes = (text: string) => new TextEncoder().encode(text).byteLength;
  if (name === "" || name.startsWith("/") || name.split("/").includes("..")) {
    throw new RangeError(
      `Cannot archive ${JSON.stringify(name)}: wanted a relative name without ..`,
    );
  }
  if (bytes(name) <= 100) return ["", name];
  for (let at = name.indexOf("/"); at >= 0; at = name.indexOf("/", at + 1)) {
    const [start, rest] = [name.slice(0, at), name.slice(at + 1)];
    if (bytes(start) <= 155 && rest !== "" && bytes(rest) <= 100) return [start, rest];
  }
  throw new RangeError(`Cannot archive ${name}: its name is too long for ustar`);
}
