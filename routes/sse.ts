// Server-sent events, written by Hono's SSEStreamingApi. Around it: the stream ends when its writer
// returns, the client leaves or the server stops. Not streamSSE: it knows nothing of a server that
// stops, and sets headers of the connection, which are the server's.

import { getLogger } from "@logtape/logtape";
import { SSEStreamingApi } from "hono/streaming";

const logger = getLogger(["lorapar", "http"]);

export interface SseWriter {
  /** Writes one event; waits while the client is slow. */
  event(data: string, fields?: { id?: number; event?: string }): Promise<void>;
  /** Writes a comment, which keeps idle connections open. */
  comment(text: string): Promise<void>;
  /** Fires when nobody listens any more. */
  signal: AbortSignal;
}

/** Answers with what `write` writes; an error it throws ends the stream. */
export function sseResponse(
  write: (sse: SseWriter) => Promise<void>,
  shutdown: AbortSignal,
): Response {
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
  const stream = new SSEStreamingApi(writable, readable);
  const gone = new AbortController();
  stream.onAbort(() => gone.abort());
  const stop = () => stream.abort();
  shutdown.addEventListener("abort", stop);
  if (shutdown.aborted) stop();
  const sse: SseWriter = {
    event: (data, { id, event } = {}) => stream.writeSSE({ data, event, id: id?.toString() }),
    comment: async (text) => {
      await stream.write(`: ${text}\n\n`);
    },
    signal: gone.signal,
  };
  write(sse)
    .catch((error) => logger.error("An event stream broke off: {error}", { error }))
    .finally(() => {
      shutdown.removeEventListener("abort", stop);
      return stream.close();
    });
  return new Response(stream.responseReadable, {
    headers: {
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-cache",
      "x-accel-buffering": "no",
    },
  });
}
