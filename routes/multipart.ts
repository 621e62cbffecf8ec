// multipart/form-data as a stream (RFC 7578): a part's bytes are handed on as they arrive, so that a
// file of any size passes through little memory. Nested multiparts and transfer encodings, which
// browsers and HTTP clients do not send, are left out.
// Not @fastify/busboy: it drops a part whose head is too long, unfinished or says no name, and what
// follows a boundary with something behind it, and then ends as if the body were whole; an upload would
// lack a field without a word. Here each of these is an error.

import { InvalidRequest } from "../lib/errors.ts";

const maxHeaderBytes = 16 * 1024;
const maxParts = 32;

export interface Part {
  name: string;
  filename: string | null;
  /** The part's bytes; read them before asking for the next part. */
  chunks: AsyncGenerator<Uint8Array, void>;
}

function malformed(found: string): InvalidRequest {
  return new InvalidRequest(
    `Cannot read the multipart body: ${found}.`,
    null,
    "invalid_multipart",
  );
}

/** The boundary a content-type names. @throws {InvalidRequest} when it is no multipart/form-data. */
export function boundaryOf(contentType: string | undefined): string {
  const match = /^multipart\/form-data\s*;.*\bboundary=(?:"([^"]{1,200})"|([^\s;]{1,200}))/i
    .exec(contentType ?? "");
  const boundary = match?.[1] ?? match?.[2];
  if (boundary === undefined) {
    throw new InvalidRequest(
      "Cannot read the upload: its content-type must be multipart/form-data with a boundary.",
      null,
      "unsupported_media_type",
    );
  }
  return boundary;
}

/** Where `pattern` begins in `bytes`, or where its first part may begin at the end; -1 for neither. */
function find(bytes: Uint8Array, pattern: Uint8Array): { at: number; whole: boolean } {
  for (let at = bytes.indexOf(pattern[0]!); at >= 0; at = bytes.indexOf(pattern[0]!, at + 1)) {
    const length = Math.min(pattern.length, bytes.length - at);
    let same = 1;
    while (same < length && bytes[at + same] === pattern[same]) same++;
    if (same === length) return { at, whole: length === pattern.length };
  }
  return { at: -1, whole: false };
}

function concat(a: Uint8Array, b: Uint8Array): Uint8Array {
  if (a.length === 0) return b;
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}

/** Hands out what lies before a pattern, keeping the rest for the next call. */
class Splitter {
  #rest: Uint8Array = new Uint8Array();

  constructor(readonly source: ReadableStreamDefaultReader<Uint8Array>, start: Uint8Array) {
    this.#rest = start;
  }

  async #more(): Promise<void> {
    const { value, done } = await this.source.read();
    if (done) throw malformed("it ends before its last boundary");
    this.#rest = concat(this.#rest, value);
  }

  async *until(pattern: Uint8Array): AsyncGenerator<Uint8Array, void> {
    while (true) {
      const { at, whole } = find(this.#rest, pattern);
      const ready = at < 0 ? this.#rest.length : at;
      const piece = this.#rest.subarray(0, ready);
      this.#rest = this.#rest.subarray(whole ? ready + pattern.length : ready);
      if (piece.length > 0) yield piece;
      if (whole) return;
      await this.#more();
    }
  }

  async take(length: number): Promise<Uint8Array> {
    while (this.#rest.length < length) await this.#more();
    const taken = this.#rest.subarray(0, length);
    this.#rest = this.#rest.subarray(length);
    return taken;
  }
}

async function textUntil(splitter: Splitter, pattern: Uint8Array, what: string): Promise<string> {
  let bytes: Uint8Array = new Uint8Array();
  for await (const chunk of splitter.until(pattern)) {
    bytes = concat(bytes, chunk);
    if (bytes.length > maxHeaderBytes) {
      throw malformed(`${what} is longer than ${maxHeaderBytes} bytes`);
    }
  }
  return new TextDecoder().decode(bytes);
}

function parseHead(head: string): Omit<Part, "chunks"> {
  const disposition = /^content-disposition:\s*form-data\s*;(.*)$/im.exec(head)?.[1] ?? "";
  const field = (key: string) =>
    new RegExp(`(?:^|;)\\s*${key}="((?:[^"\\\\]|\\\\.)*)"`, "i").exec(disposition)?.[1]
      ?.replace(/\\(.)/g, "$1").replace(/%22/g, '"').replace(/%0D/gi, "\r").replace(/%0A/gi, "\n");
  const name = field("name");
  if (name === undefined) throw malformed("a part has no name");
  return { name, filename: field("filename") ?? null };
}

/** The parts of a body in order. @throws {InvalidRequest} when it is cut off or malformed. */
export async function* readMultipart(
  body: ReadableStream<Uint8Array>,
  boundary: string,
): AsyncGenerator<Part, void> {
  const encode = (text: string) => new TextEncoder().encode(text);
  const delimiter = encode(`\r\n--${boundary}`);
  const reader = body.getReader();
  try {
    // The first boundary may open the body; a line break before it makes it like the others.
    const splitter = new Splitter(reader, encode("\r\n"));
    await textUntil(splitter, delimiter, "what stands before its first boundary");
    for (let count = 0;; count++) {
      const after = new TextDecoder().decode(await splitter.take(2));
      if (after === "--") return;
      if (after !== "\r\n") throw malformed("a boundary is not followed by a line break");
      if (count === maxParts) throw malformed(`it has more than ${maxParts} parts`);
      const head = await textUntil(splitter, encode("\r\n\r\n"), "a part's head");
      if (`\r\n${head}`.includes(`\r\n--${boundary}`)) {
        throw malformed("a part's head does not end");
      }
      const chunks = splitter.until(delimiter);
      yield { ...parseHead(head), chunks };
      for await (const _unread of chunks);
    }
  } finally {
    reader.releaseLock();
    await body.cancel().catch(() => {});
  }
}

/** A part's text. @throws {InvalidRequest} past `maxBytes`. */
export async function partText(part: Part, maxBytes = 1024): Promise<string> {
  let bytes: Uint8Array = new Uint8Array();
  for await (const chunk of part.chunks) {
    bytes = concat(bytes, chunk);
    if (bytes.length > maxBytes) {
      throw new InvalidRequest(
        `Cannot accept "${part.name}": it is longer than ${maxBytes} bytes.`,
        part.name,
      );
    }
  }
  return new TextDecoder().decode(bytes);
}
