import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { endless } from "../fake_engine.ts";
import { type AppFixture, appFixture, type Json } from "./fixture.ts";

async function upload(
  f: AppFixture,
  parts: Record<string, string | File>,
): Promise<[number, Json]> {
  const form = new FormData();
  for (const [name, value] of Object.entries(parts)) form.append(name, value);
  const response = await f.request("/v1/files", { method: "POST", body: form });
  return [response.status, await response.json()];
}

Deno.test("a file goes in, is listed, described, downloaded and deleted", async () => {
  await using f = await appFixture();
  const text = '{"question":"é","answer":"2"}\r\n--\r\n';
  const [status, file] = await upload(f, {
    file: new File([text], "my é data.jsonl"),
    purpose: "evals",
  });
  assertStrictEquals(status, 200);
  assertEquals(
    [file.object, file.filename, file.purpose, file.status, file.bytes],
    ["file", "my é data.jsonl", "evals", "processed", new TextEncoder().encode(text).length],
  );
  assert(!("path" in file));
  assertEquals((await f.get(`/v1/files/${file.id}`))[1], file);
  assertEquals((await f.get("/v1/files"))[1].data, [file]);
  assertEquals((await f.get("/v1/files?purpose=other"))[1].data, []);
  const content = await f.request(`/v1/files/${file.id}/content`);
  assertStrictEquals(await content.text(), text);
  assertStrictEquals(content.headers.get("content-type"), "application/x-ndjson");
  const gone = await f.request(`/v1/files/${file.id}`, { method: "DELETE" });
  assertEquals(await gone.json(), { id: file.id, object: "file", deleted: true });
  assertStrictEquals((await f.get(`/v1/files/${file.id}`))[0], 404);
  assertEquals([...Deno.readDirSync(f.base.store.resolve("uploads"))], []);
});

Deno.test("uploads that cannot be used are refused and leave nothing", async () => {
  await using f = await appFixture({ limits: { max_upload_bytes: 10 } });
  const refusals: [Record<string, string | File>, number, string | null][] = [
    [{ purpose: "fine-tune" }, 400, "file"],
    [{ file: new File(["x"], "model.exe") }, 400, "file"],
    [{ file: new File(["x"], "noending") }, 400, "file"],
    [{ file: new File(["x"], "a.constructor") }, 400, "file"],
    [{ file: new File(["x"], "a.__proto__") }, 400, "file"],
    [{ file: new File([], "empty.jsonl") }, 400, "file"],
    [{ file: new File(["x".repeat(11)], "long.jsonl") }, 413, "file"],
    [{ file: new File(["x"], "a.jsonl"), purpose: "a b" }, 400, "purpose"],
    [{ file: new File(["x"], "a.jsonl"), path: "/etc" }, 400, "path"],
    [{ file: new File(["x"], "a.jsonl"), purpose: "x".repeat(1025) }, 400, "purpose"],
    // Accepted and not done, it would leave a file where the client expects none.
    [
      { file: new File(["x"], "a.jsonl"), "expires_after[seconds]": "3600" },
      400,
      "expires_after[seconds]",
    ],
  ];
  for (const [parts, status, param] of refusals) {
    const [found, body] = await upload(f, parts);
    assertEquals([found, body.error.param], [status, param], JSON.stringify(body));
  }
  const wrongType = await f.request("/v1/files", { method: "POST", body: "{}" });
  assertStrictEquals(wrongType.status, 415);
  assertEquals([...Deno.readDirSync(f.base.store.resolve("uploads"))], []);
});

Deno.test("a body that is cut off is refused and leaves nothing", async () => {
  await using f = await appFixture();
  const head = '--x\r\ncontent-disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n';
  for (const body of ["--x", head, `${head}abc`, `${head}abc\r\n--x`, `${head}abc\r\n--x\r\n`]) {
    const response = await f.request("/v1/files", {
      method: "POST",
      body,
      headers: { "content-type": "multipart/form-data; boundary=x" },
    });
    assertStrictEquals(response.status, 400);
    assertStrictEquals((await response.json()).error.code, "invalid_multipart");
  }
  assertEquals([...Deno.readDirSync(f.base.store.resolve("uploads"))], []);
});

Deno.test("a name with a path in it is only a name", async () => {
  await using f = await appFixture();
  const [status, file] = await upload(f, { file: new File(["x"], "../../etc/passwd.csv") });
  assertEquals([status, file.filename], [200, "passwd.csv"]);
});

Deno.test("ids of another shape are not found, whatever they spell", async () => {
  await using f = await appFixture();
  for (const id of ["file-1", "..%2f..%2fetc%2fpasswd", "job-01k00000000000000000000000"]) {
    for (const path of [`/v1/files/${id}`, `/v1/files/${id}/content`]) {
      assertStrictEquals((await f.get(path))[0], 404);
    }
  }
});

Deno.test("a file that a job needs stays", async () => {
  await using f = await appFixture({}, endless);
  const file = await f.base.upload("{}\n");
  const [, job] = await f.post("/v1/train", { model: "lorapar-tiny", file });
  const response = await f.request(`/v1/files/${file}`, { method: "DELETE" });
  assertStrictEquals(response.status, 409);
  assertStrictEquals(response.headers.get("x-should-retry"), "false");
  assert((await response.json()).error.message.includes(job.id));
});
