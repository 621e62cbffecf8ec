import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { endless } from "../fake_engine.ts";
import { type AppFixture, appFixture, type Json } from "./fixture.ts";

const json = { "content-type": "application/json" };

/** Posts a body as it is. */
async function send(
  f: AppFixture,
  body: BodyInit | undefined,
  { path = "/v1/train", headers = json as Record<string, string> } = {},
): Promise<[status: number, code: string, headers: Headers]> {
  const response = await f.request(path, { method: "POST", body, headers });
  return [response.status, (await response.json()).error?.code, response.headers];
}

/** A body that sends `text` and then stays open, until `end` is called. */
function openBody(text: string): { body: ReadableStream<Uint8Array>; end: () => void } {
  let end = () => {};
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      controller.enqueue(new TextEncoder().encode(text));
      end = () => controller.close();
    },
  });
  return { body, end: () => end() };
}

Deno.test("bodies: not JSON, another type, an empty one, too long a one", async () => {
  await using f = await appFixture({ limits: { max_body_bytes: 1000 } });
  const post = async (body: BodyInit, type: string) =>
    (await send(f, body, { headers: { "content-type": type } })).slice(0, 2);
  assertEquals(await post('{"model":', "application/json"), [400, "invalid_json"]);
  assertEquals(await post("", "application/json"), [400, "invalid_json"]);
  assertEquals(await post("{}", "text/plain"), [415, "unsupported_media_type"]);
  assertEquals(await post("[]", "application/json"), [400, "invalid_type"]);
  const long = `"${"x".repeat(1000)}"`;
  assertEquals(await post(long, "application/json"), [413, "too_large"]);
  assertEquals(await post(long, "text/plain"), [413, "too_large"]);
  // Without a content-length it is counted as it comes, and never read to its end.
  assertEquals(await post(openBody(long).body, "application/json"), [413, "too_large"]);
});

Deno.test("bytes that are not UTF-8 are no JSON", async () => {
  await using f = await appFixture();
  const body = Uint8Array.from([...new TextEncoder().encode('{"model":"a'), 0xff, 0x22, 0x7d]);
  assertEquals((await send(f, body)).slice(0, 2), [400, "invalid_json"]);
});

Deno.test("brackets are counted before they are parsed", async () => {
  await using f = await appFixture();
  const startMs = performance.now();
  assertEquals((await send(f, "[".repeat(3.8 * 2 ** 20))).slice(0, 2), [400, "too_deep"]);
  // The parser alone needed 2.9 s.
  assert(performance.now() - startMs < 1000);
  const nested = (levels: number) => "[".repeat(levels) + "]".repeat(levels);
  assertEquals((await send(f, nested(65))).slice(0, 2), [400, "too_deep"]);
  assertEquals((await send(f, nested(64))).slice(0, 2), [400, "invalid_type"]);
  const inText = JSON.stringify({ model: `\\"${"[{".repeat(100)}` });
  assertEquals((await send(f, inText)).slice(0, 2), [400, "missing_field"]);
});

Deno.test("a body of a million small values is refused before it is checked", async () => {
  await using f = await appFixture();
  const message = `{"role":"user","content":[${Array(135).fill("{}")}]}`;
  const body = `{"model":"lorapar-tiny","messages":[${Array(9000).fill(message)}]}`;
  const startMs = performance.now();
  const answer = await send(f, body, { path: "/v1/chat/completions" });
  assertEquals(answer.slice(0, 2), [413, "too_large"]);
  // The check alone needed 2.8 s.
  assert(performance.now() - startMs < 1000);
});

Deno.test("every route that takes JSON refuses a request without it", async () => {
  await using f = await appFixture();
  const [, document] = await f.get("/openapi.json");
  const paths = Object.entries<Json>(document.paths)
    .filter(([, item]) => item.post?.requestBody?.content["application/json"])
    .map(([path]) => path.replace("{id}", "part-01k00000000000000000000000"));
  assert(paths.length >= 6);
  for (const path of paths) {
    const none = await send(f, undefined, { path, headers: {} });
    assertEquals(none.slice(0, 2), [400, "missing_body"], path);
    const noType = await send(f, new TextEncoder().encode("{}"), { path, headers: {} });
    assertEquals(noType.slice(0, 2), [415, "unsupported_media_type"], path);
    const empty = await send(f, undefined, { path });
    assertEquals(empty.slice(0, 2), [400, "invalid_json"], path);
  }
});

Deno.test("a body that stalls or is cut off is refused", async () => {
  await using f = await appFixture({ limits: { body_timeout_seconds: 0.02 } });
  assertEquals((await send(f, openBody('{"model":').body)).slice(0, 2), [408, "timeout"]);
  const upload = '--x\r\ncontent-disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\nab';
  const headers = { "content-type": "multipart/form-data; boundary=x" };
  const stalled = await send(f, openBody(upload).body, { path: "/v1/files", headers });
  assertEquals(stalled.slice(0, 2), [408, "timeout"]);
  assertEquals([...Deno.readDirSync(f.base.store.resolve("uploads"))], []);
  const cut = new ReadableStream({
    pull: () => Promise.reject(new Error("connection reset")),
  });
  assertEquals((await send(f, cut)).slice(0, 2), [400, "cut_off"]);
});

Deno.test("the bytes of all bodies in hand are bounded, and let go", async () => {
  await using f = await appFixture({ limits: { max_held_body_bytes: 1000 } });
  const first = openBody(`{"model":"${"x".repeat(800)}`);
  const answer = send(f, first.body);
  const second = JSON.stringify({ model: "y" }).padEnd(800);
  while (true) {
    const [status, code, headers] = await send(f, second);
    if (code === "missing_field") continue; // The first body has not come in yet.
    assertEquals([status, code], [503, "unavailable"]);
    assert(Number(headers.get("retry-after")) > 0);
    break;
  }
  first.end();
  assertEquals((await answer).slice(0, 2), [400, "invalid_json"]);
  assertEquals((await send(f, second)).slice(0, 2), [400, "missing_field"]);
  // A request that waits for its job holds nothing.
  f.base.engine.behave = endless;
  const file = await f.base.upload("{}\n");
  const training = { model: "lorapar-tiny", file, suffix: "s" };
  const padded = JSON.stringify(training).padEnd(800);
  const waiting = send(f, padded, { headers: { ...json, prefer: "wait=1" } });
  await new Promise((resolve) => setTimeout(resolve, 100));
  assertEquals((await send(f, second)).slice(0, 2), [400, "missing_field"]);
  assertStrictEquals((await waiting)[0], 202);
});

Deno.test("16 chats of 31 MiB are refused unread", async () => {
  await using f = await appFixture();
  let read = 0;
  const chat = (sizeBytes: number, piece: string) =>
    new ReadableStream<Uint8Array>({
      pull(controller) {
        if ((sizeBytes -= piece.length) < 0) controller.close();
        else controller.enqueue(new TextEncoder().encode(piece));
        read += piece.length;
      },
    });
  const path = "/v1/chat/completions";
  const piece = `,"unknown":"${"x".repeat(65_000)}"`;
  const answers = await Promise.all(
    Array.from({ length: 16 }, () => send(f, chat(31 * 2 ** 20, piece), { path })),
  );
  for (const [status] of answers) assertStrictEquals(status, 413);
  assert(read < 16 * 4.5 * 2 ** 20, `${read} bytes were read`);
});
