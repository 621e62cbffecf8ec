import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { createHash } from "node:crypto";

import { appFixture, type Json } from "./fixture.ts";

const methods = ["get", "post", "delete", "put", "patch"];

Deno.test("/openapi.json is 3.1 and describes every route with a schema", async () => {
  await using f = await appFixture();
  const [, document] = await f.get("/openapi.json");
  assertStrictEquals(document.openapi, "3.1.0");
  const described = new Set<string>();
  for (const [path, item] of Object.entries<Json>(document.paths)) {
    for (const method of methods.filter((one) => one in item)) {
      const operation = item[method];
      described.add(`${method.toUpperCase()} ${path.replace(/\{(\w+)\}/g, ":$1")}`);
      assert(operation.summary, `${method} ${path} has no summary`);
      for (const name of path.matchAll(/\{(\w+)\}/g)) {
        const found = operation.parameters.find((one: Json) => one.name === name[1]);
        assert(found?.in === "path" && found.required, `${path} has no parameter ${name[1]}`);
      }
      const contents = [operation.requestBody, ...Object.values<Json>(operation.responses)]
        .filter((one) => one !== undefined);
      for (const { content } of contents) {
        for (const type of Object.values<Json>(content)) {
          assert(Object.keys(type.schema).length > 0, `${method} ${path} has an empty schema`);
        }
      }
      assert("default" in operation.responses);
    }
  }
  const documents = ["/openapi.json", "/docs", "/docs/scalar.js", "/docs/start.js", "/"];
  const routes = f.app.routes
    .filter((one) => methods.includes(one.method.toLowerCase()) && !documents.includes(one.path))
    .map((one) => `${one.method} ${one.path}`);
  assertEquals(described, new Set(routes));
  assert(described.size > 25);
});

/** What a person reads of a request: its parameters, and the fields of its body, whatever their depth. */
function* requestFields(operation: Json): Generator<[string, Json]> {
  for (const one of operation.parameters ?? []) yield [one.name, { ...one.schema, ...one }];
  for (const content of Object.values<Json>(operation.requestBody?.content ?? {})) {
    yield* fields(content.schema, "");
  }
}

function* fields(schema: Json, path: string): Generator<[string, Json]> {
  for (const [name, field] of Object.entries<Json>(schema?.properties ?? {})) {
    yield [`${path}${name}`, field];
    yield* fields(field, `${path}${name}.`);
  }
  const inner = [schema?.items, ...schema?.anyOf ?? [], ...schema?.oneOf ?? []];
  for (const one of inner.filter((one) => one)) yield* fields(one, path);
}

Deno.test("every operation has an id of its own, every field of a request a description", async () => {
  await using f = await appFixture();
  const [, document] = await f.get("/openapi.json");
  const ids: string[] = [];
  let count = 0;
  for (const [path, item] of Object.entries<Json>(document.paths)) {
    for (const [method, operation] of Object.entries<Json>(item)) {
      ids.push(operation.operationId);
      assert(/^[a-z][a-zA-Z]+$/.test(operation.operationId), `${method} ${path}`);
      for (const [name, field] of requestFields(operation)) {
        count++;
        assert(/^.{5,}\.$/s.test(field.description ?? ""), `${method} ${path} ${name}`);
      }
    }
  }
  assertEquals(ids.length, new Set(ids).size);
  assert(count > 150, `${count}`);
});

Deno.test("the example of each request is one that the server understands", async () => {
  await using f = await appFixture();
  const [, document] = await f.get("/openapi.json");
  let count = 0;
  for (const [path, item] of Object.entries<Json>(document.paths)) {
    const content = item.post?.requestBody?.content["application/json"];
    if (!content) continue;
    count++;
    const [status, answer] = await f.post(path.replace("{id}", "part-0"), content.example);
    // The files of an example are not there, and no model has been trained.
    const isAbsent = status >= 400 && /^Cannot find the /.test(answer.error.message);
    assert(status < 300 || isAbsent, `${path}: ${status} ${JSON.stringify(answer)}`);
  }
  assertStrictEquals(count, 6);
});

Deno.test("every reference in /openapi.json leads somewhere", async () => {
  await using f = await appFixture();
  const [, document] = await f.get("/openapi.json");
  const references = [...JSON.stringify(document).matchAll(/"\$ref":"#\/([^"]+)"/g)];
  assert(references.length > 0);
  for (const [, path] of references) {
    assert(path!.split("/").reduce((node: Json, key) => node?.[key], document), path);
  }
});

Deno.test("bounds and defaults of the settings are in the document", async () => {
  await using f = await appFixture();
  const [, document] = await f.get("/openapi.json");
  const body = document.paths["/v1/partition"].post.requestBody.content["application/json"].schema;
  const { description: _, ...theta } = body.properties.theta;
  assertEquals(theta, { type: "number", exclusiveMinimum: 0, maximum: 1, default: 0.9 });
  assertStrictEquals(body.additionalProperties, false);
});

Deno.test("/docs and its scripts come from this server, and the policy allows nothing else", async () => {
  await using f = await appFixture();
  const response = await f.request("/docs");
  const page = await response.text();
  const policy = response.headers.get("content-security-policy");
  assert(
    policy?.includes("default-src 'none'; script-src 'self'; connect-src 'self'"),
    `${policy}`,
  );
  const scripts = [...page.matchAll(/<script[^>]*src="([^"]+)"/g)].map((match) => match[1]!);
  assertEquals(scripts, ["/docs/scalar.js", "/docs/start.js"]);
  for (const path of scripts) {
    const { status, headers } = await f.request(path);
    assertEquals([status, headers.get("content-type")], [200, "text/javascript; charset=utf-8"]);
  }
});

Deno.test("Scalar's script is the published one, compressed or not", async () => {
  await using f = await appFixture();
  const readme = await Deno.readTextFile(new URL("../../routes/docs/README.md", import.meta.url));
  const wanted = /^`([0-9a-f]{64})`$/m.exec(readme)![1];
  const digest = async (stream: ReadableStream<Uint8Array<ArrayBuffer>>) =>
    createHash("sha256").update(await new Response(stream).bytes()).digest("hex");
  const plain = await f.request("/docs/scalar.js");
  assertStrictEquals(plain.headers.get("content-encoding"), null);
  assertStrictEquals(await digest(plain.body!), wanted);
  const compressed = await f.request("/docs/scalar.js", { headers: { "accept-encoding": "gzip" } });
  assertStrictEquals(compressed.headers.get("content-encoding"), "gzip");
  const unpacked = compressed.body!.pipeThrough(new DecompressionStream("gzip"));
  assertStrictEquals(await digest(unpacked), wanted);
});
