import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { endless } from "../fake_engine.ts";
import { appFixture, type Json } from "./fixture.ts";

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
  const given = async (authorization: string) =>
    (await f.request("/v1/jobs", { headers: { authorization } })).status;
  for (const scheme of ["bearer", "BEARER", "Bearer "]) {
    assertStrictEquals(await given(`${scheme} right`), 200, scheme);
  }
  for (const wrong of ["right", "Bearerright", "Basic right", "Bearer Right", "Bearer right x"]) {
    assertStrictEquals(await given(wrong), 401, wrong);
  }
  const refused = await f.request("/v1/jobs");
  assertStrictEquals(refused.headers.get("www-authenticate"), "Bearer");
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

Deno.test("a path that is there takes its own methods only, and names them", async () => {
  await using f = await appFixture();
  const [, document] = await f.get("/openapi.json");
  const id = "job-01k00000000000000000000000";
  for (const [path, item] of Object.entries<Json>(document.paths)) {
    const own = ["GET", "POST", "DELETE"].filter((method) => method.toLowerCase() in item);
    const takes = own.flatMap((method) => method === "GET" ? ["GET", "HEAD"] : [method]);
    for (const method of ["GET", "POST", "DELETE", "PUT", "PATCH", "OPTIONS"]) {
      if (own.includes(method)) continue;
      const response = await f.request(path.replace("{id}", id), { method });
      const { error } = await response.json();
      assertEquals(
        [response.status, error.code, response.headers.get("allow")],
        [405, "method_not_allowed", takes.join(", ")],
        `${method} ${path}`,
      );
    }
  }
  assertStrictEquals((await f.request("/v1/nothing", { method: "PUT" })).status, 404);
});

Deno.test("a query parameter that nobody reads is refused", async () => {
  await using f = await appFixture();
  const [, document] = await f.get("/openapi.json");
  const id = "job-01k00000000000000000000000";
  for (const [path, item] of Object.entries<Json>(document.paths)) {
    for (const [method, { tags }] of Object.entries<Json>(item)) {
      const response = await f.request(`${path.replace("{id}", id)}?statsu=running`, {
        method: method.toUpperCase(),
      });
      const { error } = await response.json();
      // OpenAI's clients may send more than is known here.
      const isOurs = !tags.some((tag: string) => ["openai", "files", "health"].includes(tag));
      assertStrictEquals(error?.code === "unknown_field", isOurs, `${method} ${path}`);
      if (!isOurs) continue;
      assertEquals([response.status, error.param], [400, "statsu"]);
      assert(error.message.startsWith('Cannot accept the unknown query parameter "statsu"'));
    }
  }
});

Deno.test("numbers from outside have bounds", async () => {
  await using f = await appFixture();
  const job = await f.trained();
  const numbers = ["-1", "1.5", "NaN", "Infinity", "1e400", "9".repeat(400), "x", "1 2"];
  const refused = async (path: string, headers: Record<string, string> = {}) => {
    const response = await f.request(path, { headers });
    await response.body?.cancel();
    assertStrictEquals(response.status, 400, `${path} ${JSON.stringify(headers)}`);
  };
  for (const number of numbers) {
    const text = encodeURIComponent(number);
    for (const list of ["jobs", "files", "partitions", "adapters"]) {
      await refused(`/v1/${list}?limit=${text}`);
    }
    for (const name of ["after", "limit"]) {
      await refused(`/v1/jobs/${job.id}/metrics?${name}=${text}`);
      await refused(`/v1/jobs/${job.id}/samples?${name}=${text}`);
    }
    await refused(`/v1/partitions/${job.id}/scatter?points=${text}`);
    await refused(`/v1/jobs/${job.id}/events`, { "last-event-id": number });
  }
  await refused(`/v1/jobs?after=${"x".repeat(201)}`);
  await refused("/v1/jobs?limit=1&limit=2");
});

Deno.test("a time to wait that makes no sense is no time, a huge one the longest", async () => {
  await using f = await appFixture({ limits: { max_wait_seconds: 0.05 } }, endless);
  const file = await f.base.upload("{}\n");
  const body = { model: "lorapar-tiny", file };
  for (const wait of ["-1", "NaN", "", "1e3x", "9".repeat(400), "Infinity"]) {
    const [status] = await f.post("/v1/train", body, { prefer: `wait=${wait}` });
    assertStrictEquals(status, 202, wait);
  }
});
