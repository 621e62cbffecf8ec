import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { assertRejects } from "../asserts.ts";
import { fileURLToPath } from "node:url";
import { listen, type Listening } from "../../routes/listen.ts";
import { type AppFixture, appFixture } from "./fixture.ts";

const encoder = new TextEncoder();
const head = "GET /livez HTTP/1.1\r\nhost: localhost\r\n";

interface Server extends AsyncDisposable {
  f: AppFixture;
  listening: Listening;
  url: string;
  /** Opens a connection and sends `text` on it. */
  connect(text: string): Promise<Deno.TcpConn>;
}

async function serve(limits: Record<string, number> = {}): Promise<Server> {
  const f = await appFixture({ port: 0, limits });
  const listening = await listen(f.app.fetch, f.base.config);
  const { port } = listening;
  return {
    f,
    listening,
    url: `http://127.0.0.1:${port}`,
    async connect(text) {
      const connection = await Deno.connect({ hostname: "127.0.0.1", port });
      await connection.write(encoder.encode(text));
      return connection;
    },
    async [Symbol.asyncDispose]() {
      f.shutdown.abort();
      await listening.shutdown();
      await f[Symbol.asyncDispose]();
    },
  };
}

/** All that comes until the server closes the connection. */
async function readAll(connection: Deno.TcpConn): Promise<string> {
  let text = "";
  try {
    for await (const piece of connection.readable.pipeThrough(new TextDecoderStream())) {
      text += piece;
    }
  } catch {
    // A connection that is reset has ended too.
  }
  return text;
}

async function status(url: string): Promise<number> {
  const response = await fetch(url, { headers: { connection: "close" } });
  await response.body?.cancel();
  return response.status;
}

async function descriptors(): Promise<number> {
  return (await Array.fromAsync(Deno.readDir("/proc/self/fd"))).length;
}

Deno.test("a request whose head does not come is ended", async () => {
  await using server = await serve({ head_timeout_seconds: 0.2 });
  const silent = await server.connect("");
  const half = await server.connect(head);
  const [nothing, timeout] = await Promise.all([readAll(silent), readAll(half)]);
  assert(/^(HTTP\/1.1 408 |$)/.test(nothing), nothing);
  assert(timeout.startsWith("HTTP/1.1 408 "), timeout);
});

Deno.test("past the limit of connections, the oldest half-sent request makes room", async () => {
  await using server = await serve({ max_connections: 8 });
  const half = [];
  for (let i = 0; i < 40; i++) half.push(await server.connect(head));
  for (let i = 0; i < 3; i++) assertStrictEquals(await status(`${server.url}/livez`), 200);
  const ended = await Promise.all(half.slice(0, 32).map(readAll));
  assertEquals(ended, Array(32).fill(""));
  // The youngest ones are still there, and can be completed.
  await half[39]!.write(encoder.encode("connection: close\r\n\r\n"));
  assert((await readAll(half[39]!)).startsWith("HTTP/1.1 200 "));
  for (const connection of half.slice(32, 39)) connection.close();
});

Deno.test("a body that is still to come makes room too, an answer does not", async () => {
  await using server = await serve({ max_connections: 2 });
  const begun = Promise.withResolvers<void>();
  const answer = Promise.withResolvers<Response>();
  server.f.app.get("/answering", () => {
    begun.resolve();
    return answer.promise;
  });
  const answered = fetch(`${server.url}/answering`);
  await begun.promise;
  const post = "POST /v1/train HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
  const body = await server.connect(`${post}content-length: 9\r\n\r\n{`);
  while (await status(`${server.url}/livez`) !== 200);
  assertStrictEquals(await readAll(body), "");
  answer.resolve(new Response("done"));
  assertStrictEquals(await (await answered).text(), "done");
});

Deno.test("where every connection is being answered, one more is told so", async () => {
  await using server = await serve({ max_connections: 1 });
  const begun = Promise.withResolvers<void>();
  const answer = Promise.withResolvers<Response>();
  server.f.app.get("/answering", () => {
    begun.resolve();
    return answer.promise;
  });
  let counted = 0;
  server.f.app.get("/counted", () => new Response(`${++counted}`));
  const answered = fetch(`${server.url}/answering`);
  await using _ = {
    async [Symbol.asyncDispose]() {
      answer.resolve(new Response("done"));
      assertStrictEquals(await (await answered).text(), "done");
    },
  };
  await begun.promise;
  const response = await fetch(`${server.url}/counted`);
  assertEquals([response.status, response.headers.get("retry-after")], [503, "10"]);
  assertStrictEquals((await response.json()).error.code, "unavailable");
  // Who stays on after that is not kept, and nothing is done for them.
  const stubborn = [];
  for (let i = 0; i < 40; i++) {
    stubborn.push(
      await server.connect("GET /counted HTTP/1.1\r\nhost: localhost\r\n\r\n"),
    );
  }
  await Promise.all(stubborn.map(readAll));
  assertStrictEquals(counted, 0);
});

Deno.test("a client that does not read its answer is left, a quiet answer is not", async () => {
  await using server = await serve({ connection_timeout_seconds: 0.3, heartbeat_seconds: 60 });
  const { app } = server.f;
  let cancelled = false;
  app.get("/endless", () =>
    new Response(
      new ReadableStream({
        pull: (controller) => controller.enqueue(new Uint8Array(2 ** 16)),
        cancel: () => void (cancelled = true),
      }),
    ));
  app.get("/quiet", async () => {
    await new Promise((resolve) => setTimeout(resolve, 1200));
    return new Response("at last");
  });
  const quiet = fetch(`${server.url}/quiet`);
  const reader = await server.connect("GET /endless HTTP/1.1\r\nhost: localhost\r\n\r\n");
  while (!cancelled) await new Promise((resolve) => setTimeout(resolve, 50));
  reader.close();
  assertStrictEquals(await (await quiet).text(), "at last");
});

Deno.test("a client that leaves ends what was begun for it", async () => {
  await using server = await serve();
  const chat = { model: "lorapar-tiny", messages: [{ role: "user", content: "Hi" }] };
  const post = (body: unknown) => ({
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  const requests: [string, RequestInit][] = [
    ["/v1/models/lorapar-tiny", {}],
    ["/v1/chat/completions", post(chat)],
    ["/v1/chat/completions", post({ ...chat, stream: true })],
  ];
  for (const [path, request] of requests) {
    const begun = Promise.withResolvers<void>();
    const left = Promise.withResolvers<void>();
    server.f.base.engine.behave = (_task, _onEvent, signal) => {
      signal.addEventListener("abort", () => left.resolve());
      begun.resolve();
      return new Promise(() => {});
    };
    const stop = new AbortController();
    const asked = fetch(server.url + path, { ...request, signal: stop.signal });
    await begun.promise;
    stop.abort();
    await assertRejects(() => asked);
    await left.promise;
  }
});

Deno.test({
  name: "HEAD, and a download that is broken off, leave no descriptor open",
  ignore: Deno.build.os !== "linux",
  async fn() {
    await using server = await serve();
    const { f, url } = server;
    const file = await f.base.upload(`"${"x".repeat(2 ** 24)}"\n`);
    const { result } = await f.trained();
    const paths = [`/v1/files/${file}/content`, `/v1/adapters/${result.adapter}/download`];
    await status(`${url}/livez`);
    const before = await descriptors();
    for (const path of paths) {
      for (let i = 0; i < 30; i++) {
        const response = await fetch(url + path, {
          method: "HEAD",
          headers: { connection: "close" },
        });
        assertStrictEquals(response.status, 200);
        const broken = await server.connect(`GET ${path} HTTP/1.1\r\nhost: localhost\r\n\r\n`);
        await broken.read(new Uint8Array(10));
        broken.close();
      }
    }
    for (let i = 0; i < 100 && await descriptors() > before; i++) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    assert(await descriptors() <= before + 2, `${before} before, ${await descriptors()} after`);
  },
});

Deno.test("what is no HTTP, or names no host, is refused in words", async () => {
  await using server = await serve();
  const answer = async (text: string) => await readAll(await server.connect(text));
  assert((await answer("nonsense\r\n\r\n")).startsWith("HTTP/1.1 400 "));
  assert((await answer("GET / HTTP/1.1\r\n\r\n")).startsWith("HTTP/1.1 400 "));
  const odd = await answer("GET /livez HTTP/1.1\r\nhost: a b\r\nconnection: close\r\n\r\n");
  assert(/^HTTP\/1.1 400 [\s\S]*"Cannot read the request/.test(odd), odd);
  const long = `${head}x: ${"y".repeat(100_000)}\r\n\r\n`;
  assert((await answer(long)).startsWith("HTTP/1.1 431 "));
});

Deno.test("an address that is taken is an error, and a stop lets answers end", async () => {
  const server = await serve();
  await assertRejects(
    () => listen(() => new Response(), { ...server.f.base.config, port: server.listening.port }),
    ({ code }) => code === "EADDRINUSE",
  );
  server.f.app.get("/slow", async () => {
    await new Promise((resolve) => setTimeout(resolve, 200));
    return new Response("whole");
  });
  const half = await server.connect(head);
  const slow = fetch(`${server.url}/slow`);
  await new Promise((resolve) => setTimeout(resolve, 50));
  await server[Symbol.asyncDispose]();
  assertStrictEquals(await (await slow).text(), "whole");
  assertStrictEquals(await readAll(half), "");
});

Deno.test({
  name: "a server that ran out of descriptors is heard again once they are free",
  ignore: Deno.build.os === "windows",
  async fn() {
    const program = fileURLToPath(new URL("short_of_descriptors.ts", import.meta.url));
    await using server = new Deno.Command("sh", {
      args: ["-c", 'ulimit -n 200; exec "$0" run -A "$1"', Deno.execPath(), program],
      env: { NO_COLOR: "1" },
      stdout: "piped",
      stderr: "null",
    }).spawn();
    const lines = server.stdout.pipeThrough(new TextDecoderStream()).getReader();
    const port = Number((await lines.read()).value);
    server.kill("SIGUSR1");
    assertStrictEquals((await lines.read()).value, "none left\n");
    // It cannot be accepted, and after that node:http accepts no other.
    const lost = await Deno.connect({ hostname: "127.0.0.1", port });
    assertStrictEquals((await lines.read()).value, "free\n");
    const startMs = performance.now();
    let found = 0;
    while (found !== 200 && performance.now() - startMs < 20_000) {
      const options = { headers: { connection: "close" }, signal: AbortSignal.timeout(500) };
      try {
        const response = await fetch(`http://127.0.0.1:${port}/livez`, options);
        await response.body?.cancel();
        found = response.status;
      } catch {
        // Not yet.
      }
    }
    assertStrictEquals(found, 200);
    lost.close();
    await lines.cancel();
  },
});
