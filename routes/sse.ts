// Server-sent events. The stream ends when its writer returns, the client leaves or the server stops.

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
  const writer = writable.getWriter();
  const gone = new AbortController();
  const stop = () => gone.abort();
  const encoder = new TextEncoder();
  const send = async (text: string) => {
    if (!gone.signal.aborted) await writer.write(encoder.encode(text)).catch(stop);
  };
  writer.closed.catch(stop);
  shutdown.addEventListener("abort", stop);
  if (shutdown.aborted) stop();
  const sse: SseWriter = {
    event: (data, { id, event } = {}) =>
      send(
        (id === undefined ? "" : `id: ${id}\n`) + (event === undefined ? "" : `event: ${event}\n`) +
          `data: ${data}\n\n`,
      ),
    comment: (text) => send(`: ${text}\n\n`),
    signal: gone.signal,
  };
  write(sse).catch(() => {}).finally(() => {
    shutdown.removeEventListener("abort", stop);
    writer.close().catch(() => {});
  });
  return new Response(readable, {
    headers: {
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-cache",
      "x-accel-buffering": "no",
    },
  });
}
