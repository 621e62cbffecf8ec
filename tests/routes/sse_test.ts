import { assert, assertEquals } from "@std/assert";
import { sseResponse, type SseWriter } from "../../routes/sse.ts";

const never = new AbortController().signal;
const until = (signal: AbortSignal) =>
  new Promise<void>((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve());
  });

Deno.test("sse: events, comments and the end", async () => {
  const response = sseResponse(async (sse) => {
    await sse.event("one");
    await sse.comment("still here");
    await sse.event("first\nsecond", { id: 2, event: "log" });
  }, never);
  assertEquals(response.headers.get("content-type"), "text/event-stream; charset=utf-8");
  const text = await response.text();
  assertEquals(
    text,
    "data: one\n\n: still here\n\nevent: log\ndata: first\ndata: second\nid: 2\n\n",
  );
});

Deno.test("sse: a client that leaves is told to the writer", async () => {
  const ended = Promise.withResolvers<void>();
  const response = sseResponse(async (sse) => {
    await sse.event("one");
    await until(sse.signal);
    // Nobody reads it; writing must neither fail nor wait.
    await sse.event("two");
    ended.resolve();
  }, never);
  const reader = response.body!.getReader();
  await reader.read();
  await reader.cancel();
  await ended.promise;
});

Deno.test("sse: a server that stops ends its streams, also those that begin then", async () => {
  const shutdown = new AbortController();
  const follow = async (sse: SseWriter) => {
    await sse.event("one");
    await until(sse.signal);
  };
  const text = sseResponse(follow, shutdown.signal).text();
  await new Promise((resolve) => setTimeout(resolve, 20));
  shutdown.abort();
  assertEquals(await text, "data: one\n\n");
  assertEquals(await sseResponse(follow, shutdown.signal).text(), "");
});

Deno.test("sse: a slow client holds the writer back", async () => {
  let written = 0;
  const response = sseResponse(async (sse) => {
    while (!sse.signal.aborted) {
      await sse.event("x".repeat(1000));
      written++;
    }
  }, never);
  const reader = response.body!.getReader();
  await reader.read();
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert(written < 10, `${written} events wait`);
  await reader.cancel();
});

Deno.test("sse: an error of the writer ends the stream", async () => {
  const response = sseResponse(async (sse) => {
    await sse.event("one");
    throw new Error("no more");
  }, never);
  assertEquals(await response.text(), "data: one\n\n");
});
