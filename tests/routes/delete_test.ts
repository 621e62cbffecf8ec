// DELETE of jobs and partitions: what goes, what stays, and what is in use.

import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { planTrain } from "../../lib/jobs/plan.ts";
import { trainSettings } from "../../lib/train/settings.ts";
import { assertThrows } from "../asserts.ts";
import { endless } from "../fake_engine.ts";
import { type AppFixture, appFixture, type Json } from "./fixture.ts";

async function remove(f: AppFixture, path: string): Promise<[number, Json]> {
  const response = await f.request(path, { method: "DELETE" });
  return [response.status, await response.json()];
}

function names(f: AppFixture, folder: string): string[] {
  return [...Deno.readDirSync(f.base.store.resolve(folder))].map(({ name }) => name).toSorted();
}

Deno.test("a job goes with its events and scratch; what it made stays without a job", async () => {
  await using f = await appFixture();
  const { id, result } = await f.trained({ suffix: "kept" });
  await Deno.writeTextFile(f.base.store.resolve(`jobs/${id}/scratch`), "x");
  const answer = { id, object: "job", deleted: true };
  assertEquals(await remove(f, `/v1/jobs/${id}`), [200, answer]);
  for (const path of ["", "/events", "/metrics", "/samples"]) {
    assertStrictEquals((await f.get(`/v1/jobs/${id}${path}`))[0], 404);
  }
  assertEquals((await f.get("/v1/jobs"))[1].data, []);
  assertEquals(f.base.store.events(id, 0, 10), []);
  const [, adapter] = await f.get(`/v1/adapters/${result.adapter}`);
  const [, partition] = await f.get(`/v1/partitions/${result.partition}`);
  assertEquals([adapter.job, adapter.partition, partition.job], [null, result.partition, null]);
  assertEquals(names(f, `jobs/${id}`), ["adapter", "partition"]);
  const download = await f.request(`/v1/adapters/${result.adapter}/download`);
  assert(download.ok && (await download.bytes()).length > 1024);
  await f.base.models.get("lorapar-tiny:kept");
  assertStrictEquals((await remove(f, `/v1/jobs/${id}`))[0], 404);
});

Deno.test("a job that failed leaves nothing on the disk, and goes as well", async () => {
  await using f = await appFixture();
  f.base.engine.behave = async (task) => {
    const { outputFolder } = task as { outputFolder: string };
    await Deno.writeTextFile(`${outputFolder}/half`, "x");
    throw new Error("No.");
  };
  const file = await f.base.upload("{}\n");
  const body = { model: "lorapar-tiny", file };
  const [, job] = await f.post("/v1/train", body, { prefer: "wait=10" });
  assertStrictEquals(job.status, "failed");
  assertStrictEquals((await remove(f, `/v1/jobs/${job.id}`))[0], 200);
  assertEquals(names(f, "jobs"), []);
});

Deno.test("a job that waits or runs stays, and says to cancel it", async () => {
  await using f = await appFixture({}, endless);
  const file = await f.base.upload("{}\n");
  for (const status of ["running", "queued"]) {
    const [, job] = await f.post("/v1/train", { model: "lorapar-tiny", file });
    assertStrictEquals(job.status, status);
    const [code, { error }] = await remove(f, `/v1/jobs/${job.id}`);
    assertEquals([code, error.code], [409, "conflict"]);
    assert(error.message.includes(`POST /v1/jobs/${job.id}/cancel`));
  }
});

Deno.test("a partition goes with its folder; an adapter and a partition from it stay", async () => {
  await using f = await appFixture();
  const { result } = await f.trained();
  const theta = { theta: 0.5, alpha: 1, beta: 1 };
  const [, other] = await f.post(`/v1/partitions/${result.partition}/rethreshold`, theta);
  const answer = { id: result.partition, object: "partition", deleted: true };
  assertEquals(await remove(f, `/v1/partitions/${result.partition}`), [200, answer]);
  assertStrictEquals((await f.get(`/v1/partitions/${result.partition}`))[0], 404);
  const [, adapter] = await f.get(`/v1/adapters/${result.adapter}`);
  assertStrictEquals(adapter.partition, null);
  assertEquals(names(f, `jobs/${adapter.job}`), ["adapter"]);
  assertStrictEquals((await f.get(`/v1/partitions/${other.id}`))[1].source, null);
  assertStrictEquals((await f.request(`/v1/partitions/${other.id}/download`)).status, 200);
  assertStrictEquals((await remove(f, `/v1/partitions/${other.id}`))[0], 200);
  assertEquals(names(f, "partitions"), []);
});

Deno.test("files, partitions and adapters that a job needs stay until it has ended", async () => {
  await using f = await appFixture();
  const { result } = await f.trained({ suffix: "base" });
  const file = await f.base.upload("{}\n");
  f.base.engine.behave = endless;
  const { partition } = result;
  const [, job] = await f.post("/v1/train", { model: "lorapar-tiny:base", file, partition });
  const paths = [
    `/v1/files/${file}`,
    `/v1/partitions/${partition}`,
    `/v1/adapters/${result.adapter}`,
  ];
  for (const path of paths) {
    const [status, { error }] = await remove(f, path);
    assertEquals([status, error.code], [409, "conflict"], path);
    assert(error.message.includes(job.id));
  }
  await f.post(`/v1/jobs/${job.id}/cancel`);
  await f.base.queue.wait(job.id, 10);
  for (const path of paths) assertStrictEquals((await remove(f, path))[0], 200, path);
});

Deno.test("what is deleted between a request's plan and its queueing is missed at once", async () => {
  await using f = await appFixture();
  const { result } = await f.trained({ suffix: "base" });
  const { store, queue } = f.base;
  const file = await f.base.upload("{}\n");
  const settings = { model: "lorapar-tiny:base", file, partition: result.partition };
  const plan = () => planTrain(f.base, trainSettings.parse(settings));
  const gone: [string, () => Promise<void>][] = [
    [file, () => store.removeFile(store.file(file)!)],
    [result.partition, () => store.removePartition(store.partition(result.partition)!)],
    [result.adapter, () => store.removeAdapter(store.adapter(result.adapter)!)],
  ];
  const plans = await Promise.all(gone.map(plan));
  const jobs = () => store.jobs({ limit: 100, order: "asc" }).data.length;
  const before = jobs();
  for (const [i, [id, remove]] of gone.entries()) {
    await remove();
    assert(plans[i]!.uses.includes(id));
    // By itself, as those before it are gone already.
    assertThrows(
      () => queue.submit({ ...plans[i]!, uses: [id] }),
      (error) => error.code === "conflict" && error.message.includes(id),
    );
  }
  assertStrictEquals(jobs(), before);
});

Deno.test("what is gone from the disk already can be deleted", async () => {
  await using f = await appFixture();
  const { id, result } = await f.trained();
  await Deno.remove(f.base.store.resolve(`jobs/${id}`), { recursive: true });
  const file = await f.base.upload("{}\n");
  await Deno.remove(f.base.store.resolve(f.base.store.file(file)!.path));
  const paths = [
    `/v1/jobs/${id}`,
    `/v1/adapters/${result.adapter}`,
    `/v1/partitions/${result.partition}`,
    `/v1/files/${file}`,
  ];
  for (const path of paths) assertStrictEquals((await remove(f, path))[0], 200, path);
});
