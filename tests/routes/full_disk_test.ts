// What HTTP clients see while the disk is full: 507 with the reason for what they ask to be written,
// everything else as ever, and no restart needed afterwards.

import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { endless } from "../fake_engine.ts";
import { withFullDisk } from "../lib/jobs/full_disk.ts";
import { type AppFixture, appFixture } from "./fixture.ts";

function upload(f: AppFixture): Promise<Response> {
  const form = new FormData();
  form.append("file", new File(["{}\n"], "a.jsonl"));
  return f.request("/v1/files", { method: "POST", body: form });
}

Deno.test("writes are 507 with the reason while the disk is full, reads go on", async () => {
  const [f, disk] = await withFullDisk(() => appFixture());
  await using _ = f;
  const file = await f.base.upload("{}\n");
  const job = await f.trained();
  const body = { model: "lorapar-tiny", file };
  const writes: [string, () => Promise<Response>][] = [
    ["upload", () => upload(f)],
    ["job", () =>
      f.request("/v1/train", {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(body),
      })],
    ["rethreshold", () =>
      f.request(`/v1/partitions/${job.result.partition}/rethreshold`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ theta: 0.5, alpha: 1, beta: 1 }),
      })],
    ["delete", () => f.request(`/v1/jobs/${job.id}`, { method: "DELETE" })],
  ];
  disk.fill();
  for (const [name, write] of writes) {
    const response = await write();
    const { error } = await response.json();
    assertEquals([response.status, error.code], [507, "storage_full"], name);
    assert(/the disk is full. Make room/.test(error.message), error.message);
    assertStrictEquals(response.headers.get("x-should-retry"), "false");
  }
  assertStrictEquals((await f.get("/v1/jobs"))[1].data.length, 1);
  // Nothing is left of what was refused: there are the fixture's file and the training's.
  assertStrictEquals([...Deno.readDirSync(f.base.store.resolve("uploads"))].length, 2);
  assertStrictEquals([...Deno.readDirSync(f.base.store.resolve("partitions"))].length, 0);
  disk.makeRoom();
  for (const [name, write] of writes) {
    const response = await write();
    assert(response.ok, name);
    await response.body?.cancel();
  }
});

Deno.test("an upload that the file system has no room for is 507 and leaves nothing", async () => {
  await using f = await appFixture();
  const { write } = Deno.FsFile.prototype;
  Deno.FsFile.prototype.write = () =>
    Promise.reject(
      Object.assign(new Error("No space left on device (os error 28)"), { code: "ENOSPC" }),
    );
  try {
    const response = await upload(f);
    assertStrictEquals(response.status, 507);
    assertStrictEquals((await response.json()).error.code, "storage_full");
  } finally {
    Deno.FsFile.prototype.write = write;
  }
  assertEquals([...Deno.readDirSync(f.base.store.resolve("uploads"))], []);
  assertStrictEquals((await upload(f)).status, 200);
});

Deno.test("on a full disk a stream of events still comes to its end", async () => {
  const [f, disk] = await withFullDisk(() => appFixture({}, endless));
  await using _ = f;
  const file = await f.base.upload("{}\n");
  const [, job] = await f.post("/v1/train", { model: "lorapar-tiny", file });
  const stream = await f.request(`/v1/jobs/${job.id}/events`);
  disk.fill();
  const [status] = await f.post(`/v1/jobs/${job.id}/cancel`);
  assertStrictEquals(status, 200);
  const text = await stream.text();
  assert(/data: \{"status":"cancelled","error":null\}\nid: \d+\n\n$/.test(text), text);
  assertStrictEquals((await f.get(`/v1/jobs/${job.id}`))[1].status, "cancelled");
});

Deno.test("on a full disk a deletion makes room for itself", async () => {
  const [f, disk] = await withFullDisk(() => appFixture());
  await using _ = f;
  const file = await f.base.upload("{}\n");
  const { result } = await f.trained();
  const paths = [
    `/v1/files/${file}`,
    `/v1/adapters/${result.adapter}`,
    `/v1/partitions/${result.partition}`,
  ];
  const { remove } = Deno;
  Deno.remove = async (path, options) => {
    await remove(path, options);
    disk.makeRoom();
  };
  try {
    for (const path of paths) {
      disk.fill();
      assertStrictEquals((await f.request(path, { method: "DELETE" })).status, 200, path);
      assertStrictEquals((await f.get(path))[0], 404);
    }
  } finally {
    Deno.remove = remove;
  }
});

Deno.test("a deletion that a full disk cuts in two can be ended later", async () => {
  const [f, disk] = await withFullDisk(() => appFixture());
  await using _ = f;
  const file = await f.base.upload("{}\n");
  disk.fill();
  assertStrictEquals((await f.request(`/v1/files/${file}`, { method: "DELETE" })).status, 507);
  assertStrictEquals((await f.get(`/v1/files/${file}`))[0], 200);
  const [status, { error }] = await f.get(`/v1/files/${file}/content`);
  assertEquals([status, error.code], [404, "not_found"]);
  disk.makeRoom();
  assertStrictEquals((await f.request(`/v1/files/${file}`, { method: "DELETE" })).status, 200);
});
