// Request bodies: how large, how slow and how deep they may be. A body that is not an upload is read
// here, whole and once: its bytes are counted over all requests, its depth and its encoding are checked
// before it is parsed (a parser needs seconds for megabytes of brackets), and the validator finds the
// bytes in the request's place. An upload streams on to the disk; here it is only kept from stalling and from never ending.

import type { MiddlewareHandler } from "hono";
import { InvalidRequest } from "../lib/errors.ts";
import type { ServerConfig } from "../lib/jobs/config.ts";
import { maxJsonDepth, passedBound } from "../lib/json_text.ts";

declare module "hono" {
  interface ContextVariableMap {
    /** Lets go of the body; called where the rest of a request takes long and does not need it. */
    releaseBody?: () => void;
  }
}

const uploadPath = "/v1/files";

/** What an upload may have around its file: boundaries, heads and short fields. */
const uploadOverheadBytes = 64 * 1024;

/** A check of a million small values against a schema takes seconds; no request here needs so many. */
const maxValues = 200_000;

/** Whether a content-type is JSON, e.g. `application/json; charset=utf-8`. */
export function isJson(contentType: string | null): boolean {
  return /^\s*application\/([\w.-]+\+)?json\s*(;|$)/i.test(contentType ?? "");
}

/** @throws {InvalidRequest} for bytes that are not UTF-8, deep brackets and more values than are sane. */
function checkJson(bytes: Uint8Array): void {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new InvalidRequest(
      "Cannot read the body as JSON: it is not UTF-8.",
      null,
      "invalid_json",
    );
  }
  const passed = passedBound(text, { depth: maxJsonDepth, values: maxValues });
  if (passed === "depth") {
    throw new InvalidRequest(
      `Cannot read the body as JSON: its brackets nest more than ${maxJsonDepth} deep.`,
      null,
      "too_deep",
    );
  }
  if (passed === "values") {
    throw new InvalidRequest(
      `Cannot read the body as JSON: it has more than ${maxValues} values. Upload the data as a file.`,
      null,
      "too_large",
    );
  }
}

function tooLarge(maxBytes: number): InvalidRequest {
  return new InvalidRequest(
    `Cannot read the body: it is larger than ${maxBytes} bytes. Upload the data as a file.`,
    null,
    "too_large",
  );
}

/** A body's pieces. @throws {InvalidRequest} past `maxBytes`, after a silence, and when it is cut off. */
async function* piecesOf(
  body: ReadableStream<Uint8Array>,
  maxBytes: number,
  silenceSeconds: number,
): AsyncGenerator<Uint8Array<ArrayBuffer>, void> {
  const reader = body.getReader();
  let sizeBytes = 0;
  try {
    while (true) {
      const silence = Promise.withResolvers<never>();
      const timer = setTimeout(() => {
        silence.reject(
          new InvalidRequest(
            `Cannot read the body: nothing more of it came in ${silenceSeconds} s.`,
            null,
            "timeout",
          ),
        );
      }, silenceSeconds * 1000);
      const cutOff = () => {
        throw new InvalidRequest("Cannot read the body: it is cut off.", null, "cut_off");
      };
      const { value, done } = await Promise.race([reader.read().catch(cutOff), silence.promise])
        .finally(() => clearTimeout(timer));
      if (done) return;
      sizeBytes += value.length;
      if (sizeBytes > maxBytes) throw tooLarge(maxBytes);
      yield value as Uint8Array<ArrayBuffer>;
    }
  } finally {
    // Not awaited: a client that stalls may never let it end.
    reader.cancel().catch(() => {});
  }
}

/** Reads bodies within their limits, and refuses what is past one of them with 408, 413 or 503. */
export function readBodies({ limits }: ServerConfig): MiddlewareHandler {
  /** Bytes of every body that is being read or handled now. */
  let heldBytes = 0;

  const hold = (sizeBytes: number) => {
    if (heldBytes + sizeBytes > limits.max_held_body_bytes) {
      throw new InvalidRequest(
        "Cannot read the body: the bodies of other requests fill the memory set aside for them. " +
          "Try again in a moment.",
        null,
        "unavailable",
      );
    }
    heldBytes += sizeBytes;
  };

  return async (c, next) => {
    const { body, headers, method, signal } = c.req.raw;
    if (!body) return await next();
    const isUpload = c.req.path === uploadPath;
    const maxBytes = isUpload
      ? limits.max_upload_bytes + uploadOverheadBytes
      : limits.max_body_bytes;
    if (Number(headers.get("content-length")) > maxBytes) throw tooLarge(maxBytes);
    const pieces = piecesOf(body, maxBytes, limits.body_timeout_seconds);
    const replace = (body: BodyInit) => {
      c.req.raw = new Request(c.req.url, { method, headers, body, signal });
    };
    if (isUpload) {
      replace(ReadableStream.from(pieces));
      return await next();
    }
    let ownBytes = 0;
    const release = () => {
      heldBytes -= ownBytes;
      ownBytes = 0;
      c.req.bodyCache = {};
    };
    c.set("releaseBody", release);
    try {
      const parts: Uint8Array<ArrayBuffer>[] = [];
      for await (const piece of pieces) {
        hold(piece.length);
        ownBytes += piece.length;
        parts.push(piece);
      }
      const bytes = await new Blob(parts).bytes();
      if (isJson(headers.get("content-type"))) checkJson(bytes);
      replace(bytes);
      await next();
    } finally {
      release();
    }
  };
}
