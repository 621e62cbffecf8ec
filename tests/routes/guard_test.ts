import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { appFixture } from "./fixture.ts";

Deno.test("every answer has a request id, errors and unknown routes included", async () => {
  await using f = await appFixture();
  const seen = new Set<string>();
  for (const path of ["/livez", "/v1/nothing", "/v1/jobs/job-1", "/v1/jobs?limit=x", "/docs"]) {
    const response = await f.request(path);
    const id = response.headers.get("x-request-id");
    assert(id && /^req-[0-9a-f]{32}$/.test(id), path);
    seen.add(id);
    await response.body?.cancel();
  }
  assertStrictEquals(seen.size, 5);
});

Deno.test("an unknown route has the API's error shape", async () => {
  await using f = await appFixture();
  const [status, body] = await f.get("/v1/nothing");
  assertStrictEquals(status, 404);
  assertEquals(body, {
    error: {
      message: "Cannot GET /v1/nothing: there is no such route. /openapi.json lists them.",
      type: "invalid_request_error",
      param: null,
      code: "not_found",
    },
  });
});

Deno.test("an error of the server's own tells nothing of its inside", async () => {
  await using f = await appFixture();
  f.base.engine.behave = () => Promise.reject(new TypeError("secret path /root/x"));
  const [status, body] = await f.get("/v1/models/lorapar-tiny");
  assertEquals([status, body.error.code], [500, "internal_error"]);
  assert(!JSON.stringify(body).includes("secret"));
});

Deno.test("hosts that are not this server are refused", async () => {
  await using f = await appFixture({ allowed_hosts: ["gpu.example"] });
  const status = async (host: string) => (await f.request("/livez", { headers: { host } })).status;
  for (const host of ["localhost", "127.0.0.1:8080", "[::1]:8080", "gpu.example:80"]) {
    assertStrictEquals(await status(host), 200, host);
  }
  for (
    const host of [
      "evil.example",
      "localhost.evil.example",
      "10.0.0.1",
      "127.0.0.1.evil.example",
      "a b",
    ]
  ) {
    assertStrictEquals(await status(host), 403, host);
  }
});

Deno.test("bound beyond this machine, addresses are hosts and the key decides", async () => {
  await using f = await appFixture({ host: "0.0.0.0", api_key: "k" });
  const headers = { authorization: "Bearer k" };
  const status = async (host: string) =>
    (await f.request("/v1/jobs", { headers: { ...headers, host } })).status;
  assertStrictEquals(await status("10.0.0.1:8080"), 200);
  assertStrictEquals(await status("evil.example"), 403);
});

Deno.test("pages of other origins are refused unless allowed by name", async () => {
  await using f = await appFixture({ allowed_origins: ["https://app.example"] });
  const ask = (origin: string, method = "GET") =>
    f.request("/v1/jobs", { method, headers: { origin, host: "127.0.0.1:8080" } });
  assertStrictEquals((await ask("http://127.0.0.1:8080")).status, 200);
  for (const origin of ["https://evil.example", "null", "http://127.0.0.1:9"]) {
    const response = await ask(origin);
    assertStrictEquals(response.status, 403, origin);
    assertStrictEquals(response.headers.get("access-control-allow-origin"), null);
  }
  const allowed = await ask("https://app.example");
  assertStrictEquals(allowed.status, 200);
  assertStrictEquals(allowed.headers.get("access-control-allow-origin"), "https://app.example");
  const preflight = await f.request("/v1/jobs", {
    method: "OPTIONS",
    headers: {
      origin: "https://app.example",
      host: "127.0.0.1:8080",
      "access-control-request-method": "POST",
    },
  });
  assertStrictEquals(preflight.status, 204);
});

Deno.test("with a key, everything but probes and documents asks for it", async () => {
  await using f = await appFixture({ api_key: "right" });
  const status = async (path: string, key?: string) =>
    (await f.request(path, { headers: key ? { authorization: `Bearer ${key}` } : {} })).status;
  for (const path of ["/v1/jobs", "/v1/models", "/v1/nothing"]) {
    assertStrictEquals(await status(path), 401);
    assertStrictEquals(await status(path, "wrong"), 401);
  }
  assertStrictEquals(await status("/v1/jobs", "right"), 200);
  for (const path of ["/livez", "/readyz", "/openapi.json", "/docs"]) {
    assertStrictEquals(await status(path), 200);
  }
});

Deno.test("a server that stops is alive but not ready", async () => {
  await using f = await appFixture();
  assertStrictEquals((await f.get("/readyz"))[0], 200);
  await f.base.queue.close();
  assertStrictEquals((await f.get("/readyz"))[0], 503);
  assertStrictEquals((await f.get("/livez"))[0], 200);
});
