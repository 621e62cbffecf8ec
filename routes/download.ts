// Answers that are files. Nothing is opened for HEAD; whatever is opened is closed when the answer has
// been read, breaks off, or has lost its reader.

import type { Context, MiddlewareHandler } from "hono";
import { getLogger } from "@logtape/logtape";
import { InvalidRequest } from "../lib/errors.ts";

const logger = getLogger(["lorapar", "http"]);

/**
 * Answers what `open` opens. Its first piece is read before the answer begins, so that a file which
 * cannot be read still gets a status of its own; what fails later ends the answer early.
 */
export async function download(
  c: Context,
  headers: Record<string, string>,
  open: () => Promise<ReadableStream<Uint8Array>>,
): Promise<Response> {
  if (c.req.method === "HEAD") return new Response(null, { headers });
  const source = (await open()).getReader();
  let next: Promise<ReadableStreamReadResult<Uint8Array>> | null = source.read();
  await next;
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const { value, done } = await (next ?? source.read());
        next = null;
        if (done) controller.close();
        else controller.enqueue(value);
      } catch (error) {
        logger.error("{path} broke off: {error}", { path: c.req.path, error });
        controller.error(new Error("Cannot read on."));
      }
    },
    cancel: (reason) => source.cancel(reason),
  });
  return new Response(body, { headers });
}

/** Answers the file at `path`. @throws {InvalidRequest} code "not_found" when somebody took it away. */
export async function downloadFile(
  c: Context,
  path: string,
  headers: Record<string, string>,
): Promise<Response> {
  const { size } = await Deno.stat(path).catch((error) => {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new InvalidRequest(
      "Cannot download it: its bytes are not in the data folder any more. Delete it, or restore the folder.",
      null,
      "not_found",
    );
  });
  return await download(
    c,
    { ...headers, "content-length": String(size) },
    async () => (await Deno.open(path, { read: true })).readable,
  );
}

/** Ends the body that a handler of GET made for a HEAD request, of which nobody reads it. */
export const dropHeadBody: MiddlewareHandler = async (c, next) => {
  await next();
  if (c.req.method === "HEAD") await c.res.body?.cancel();
};
