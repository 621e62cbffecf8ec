// A text file in pieces, as UTF-8, a byte order mark at its start dropped. A file is never whole in
// memory, and each piece is read when it is asked for.

/** Makes the error for what is wrong with a file, e.g. "line 3 is not UTF-8 text". */
export type Fail = (what: string) => Error;

/** Characters that a line, record or row may have. */
export const maxRecordChars = 2 ** 24;

const pieceBytes = 2 ** 18;
const newline = 10;

/**
 * The text in pieces of up to 256 KiB; no character is cut by the ends of a piece.
 * @throws what `fail` makes, naming the line, when it is not UTF-8
 */
export async function* textPieces(path: string, fail: Fail): AsyncGenerator<string> {
  using file = await Deno.open(path, { read: true });
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  const bytes = new Uint8Array(pieceBytes);
  let carried = 0, line = 1;
  for (let isFirst = true, isLast = false; !isLast; isFirst = false) {
    const read = await file.read(bytes.subarray(carried));
    isLast = read === null;
    const end = carried + (read ?? 0);
    const piece = bytes.subarray(0, isLast ? end : end - cutCharacter(bytes.subarray(0, end)));
    let text: string;
    try {
      text = decoder.decode(piece);
    } catch {
      throw fail(`line ${line + lineOfDamage(piece)} is not UTF-8 text; save the file as UTF-8`);
    }
    yield isFirst && text.startsWith("\ufeff") ? text.slice(1) : text;
    line += countLines(text);
    bytes.copyWithin(0, piece.length, end);
    carried = end - piece.length;
  }
}

/** Bytes at the end that begin a character of UTF-8 without ending it. */
function cutCharacter(bytes: Uint8Array): number {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const byte = bytes[bytes.length - back];
    if ((byte & 0xc0) === 0x80) continue;
    const length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    return length > back ? back : 0;
  }
  return 0;
}

/** How many line ends stand before the first bytes that are not UTF-8. */
function lineOfDamage(bytes: Uint8Array): number {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  for (let start = 0, line = 0;; line++) {
    const end = bytes.indexOf(newline, start);
    try {
      decoder.decode(bytes.subarray(start, end < 0 ? bytes.length : end));
    } catch {
      return line;
    }
    if (end < 0) return line;
    start = end + 1;
  }
}

/** Line ends in a text. */
export function countLines(text: string): number {
  let count = 0;
  for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) count++;
  return count;
}

/**
 * The lines of a text that comes in pieces, those of a piece together; line ends are dropped.
 * @throws what `fail` makes, when a line is longer than `maxRecordChars`
 */
export async function* lineGroups(
  pieces: AsyncIterable<string>,
  fail: Fail,
): AsyncGenerator<string[]> {
  // What a line has so far; joined once, however many pieces it goes through.
  let begun: string[] = [], begunChars = 0, line = 1;
  const add = (text: string) => {
    begun.push(text);
    begunChars += text.length;
    if (begunChars > maxRecordChars) {
      throw fail(
        `line ${line} is longer than ${maxRecordChars} characters; wanted one record a line`,
      );
    }
  };
  for await (const piece of pieces) {
    const lines: string[] = [];
    let start = 0;
    for (let end = piece.indexOf("\n"); end >= 0; end = piece.indexOf("\n", start)) {
      add(piece.slice(start, end));
      lines.push(begun.join(""));
      begun = [];
      begunChars = 0;
      start = end + 1;
      line++;
    }
    add(piece.slice(start));
    yield lines;
  }
  yield [begun.join("")];
}
