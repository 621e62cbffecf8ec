import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { DatabaseSync } from "node:sqlite";
import { fileURLToPath } from "node:url";
import { assertThrows } from "../../asserts.ts";
import { GpuError, storageFailure } from "../../../lib/errors.ts";
import { HeldWrites } from "../../../lib/jobs/held.ts";
import { planTrain } from "../../../lib/jobs/plan.ts";
import { hasEnded } from "../../../lib/jobs/queue.ts";
import { Store } from "../../../lib/jobs/store.ts";
import { trainSettings } from "../../../lib/train/settings.ts";
import { type Behaviour, endless, usual } from "../../fake_engine.ts";
import { type Fixture, fixture } from "./fixture.ts";
import { withFullDisk } from "./full_disk.ts";

async function trainPlan(f: Fixture) {
  const file = await f.upload("{}\n");
  return await planTrain(f, trainSettings.parse({ model: "lorapar-tiny", file }));
}

/** Waits until `isSo`, looking every few milliseconds. */
async function until(isSo: () => boolean | Promise<boolean>): Promise<void> {
  for (const start = performance.now(); !await isSo();) {
    assert(performance.now() - start < 10_000, "It did not come to be.");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** What a start after a kill would find: the rows as they are now. */
async function afterKill<T>(f: Fixture, read: (store: Store) => T): Promise<T> {
  const copy = await Deno.makeTempDir();
  for (const name of ["lorapar.sqlite", "lorapar.sqlite-wal"]) {
    await Deno.copyFile(f.store.resolve(name), `${copy}/${name}`);
  }
  const store = new Store(copy);
  try {
    return read(store);
  } finally {
    store.close();
    await Deno.remove(copy, { recursive: true });
  }
}

Deno.test("a full disk's own words reach the caller, and the store goes on", async () => {
  const folder = await Deno.makeTempDir();
  const [store, disk] = await withFullDisk(() => new Store(folder));
  disk.stopGrowth();
  const big = "x".repeat(100_000);
  assertThrows(
    () => store.addJob("job-1", "train", { big }),
    (error) => storageFailure(error)?.code === "storage_full",
  );
  assertStrictEquals(store.job("job-1"), null);
  disk.makeRoom();
  store.addJob("job-1", "train", { big });
  assertStrictEquals(store.job("job-1")?.status, "queued");
  store.close();
  await Deno.remove(folder, { recursive: true });
});

Deno.test({
  name: "a write that fails when its transaction is committed is told as such",
  ignore: Deno.build.os === "windows",
  async fn() {
    const folder = await Deno.makeTempDir();
    const script = fileURLToPath(new URL("./limited_store.ts", import.meta.url));
    // 200 blocks: the system refuses to let a file grow further, and tells the process by an error.
    const command = `trap "" XFSZ; ulimit -f 200; exec "$0" run -A --no-check "$1" "$2"`;
    const args = ["-c", command, Deno.execPath(), script, folder];
    const { stdout, stderr } = await new Deno.Command("sh", { args }).output();
    const text = new TextDecoder().decode(stdout);
    assert(text !== "", new TextDecoder().decode(stderr));
    assertEquals(JSON.parse(text), {
      code: "storage_full",
      status: "cancelled",
      events: ["log", "status"],
    });
    await Deno.remove(folder, { recursive: true });
  },
});

Deno.test("a job that fails on a full disk has failed for all who ask, and in the rows later", async () => {
  const [f, disk] = await withFullDisk(() => fixture({}, endless));
  await using _ = f;
  f.engine.behave = (task, onEvent, signal) => {
    onEvent({ type: "metrics", phase: "sft", step: 1, values: { loss: 2 } });
    disk.fill();
    onEvent({ type: "metrics", phase: "sft", step: 2, values: { loss: 1 } });
    signal.throwIfAborted();
    return Promise.reject(new GpuError(`No space left for ${task.kind}`));
  };
  const { id } = f.queue.submit(await trainPlan(f));
  const ended = await f.queue.wait(id, 10);
  assertEquals([ended.status, ended.error?.message], ["failed", "No space left for train"]);
  const list = (status: "failed" | "running") =>
    f.store.jobs({ limit: 10, order: "asc", status }).data.map((job) => [job.id, job.status]);
  assertEquals([list("failed"), list("running")], [[[id, "failed"]], []]);
  // Its events are numbered on, by type too, so that a stream comes to its end.
  const events = () => f.store.events(id, 0, 100).map(({ number, type }) => [number, type]);
  const all = [[1, "status"], [2, "status"], [3, "metrics"], [4, "metrics"], [5, "status"]];
  assertEquals(events(), all);
  assertEquals(f.store.events(id, 0, 100, "metrics").map(({ data }) => data.loss), [2, 1]);
  assertEquals(f.store.events(id, 4, 100).map(({ data }) => data.status), ["failed"]);
  assertThrows(() => f.queue.cancel(ended), /it has ended already \(failed\)/);

  disk.makeRoom();
  const rowsOf = (store: Store) => {
    const { status, error } = store.job(id)!;
    return { status, error, events: store.events(id, 0, 100) };
  };
  await until(async () => (await afterKill(f, rowsOf)).error?.code !== "interrupted");
  assertEquals(await afterKill(f, rowsOf), rowsOf(f.store));
});

Deno.test("a training goes on over a full disk, and its results wait for room", async () => {
  const [f, disk] = await withFullDisk(() => fixture());
  await using _ = f;
  const full: Behaviour = (task, onEvent, signal) => {
    disk.fill();
    return usual(task, onEvent, signal);
  };
  f.engine.behave = full;
  const { id } = f.queue.submit(await trainPlan(f));
  await until(() => f.store.job(id)!.progress?.phase === "storing");
  assertStrictEquals(f.store.job(id)!.status, "running");
  const { data } = f.store.events(id, 0, 100, "log").at(-1)!;
  assert(/the disk is full/.test(String(data.message)));
  disk.makeRoom();
  const ended = await f.queue.wait(id, 10);
  assertStrictEquals(ended.status, "succeeded");
  const { adapter } = ended.result as { adapter: string };
  assert(f.store.adapter(adapter) !== null);
  const events = f.store.events(id, 0, 100);
  assertEquals(events.map(({ number }) => number), events.map((_, i) => i + 1));
  assertStrictEquals(events.filter(({ type }) => type === "metrics").length, 2);
  assertStrictEquals(await afterKill(f, (store) => store.job(id)!.status), "succeeded");
});

Deno.test("on a full disk waiting jobs wait, and both kinds can be cancelled", async () => {
  const [f, disk] = await withFullDisk(() => fixture({}, endless));
  await using _ = f;
  const running = f.queue.submit(await trainPlan(f));
  const [second, third] = [f.queue.submit(await trainPlan(f)), f.queue.submit(await trainPlan(f))];
  await until(() => f.store.job(running.id)!.progress !== null);
  disk.fill();
  assertStrictEquals(f.queue.cancel(second).status, "cancelled");
  f.queue.cancel(running);
  assertStrictEquals((await f.queue.wait(running.id, 10)).status, "cancelled");
  // The third's turn has come, and it cannot begin.
  assertStrictEquals((await f.queue.wait(third.id, 0.02)).status, "queued");
  assertStrictEquals(f.engine.tasks.length, 1);
  assertStrictEquals(f.queue.cancel(second).status, "cancelled");
  disk.makeRoom();
  await until(() => f.store.job(third.id)!.status === "running");
  f.queue.cancel(third);
  await f.queue.wait(third.id, 10);
  const ids = [running, second, third].map(({ id }) => id);
  assert(ids.every((id) => hasEnded(f.store.job(id)!)));
  await until(async () =>
    (await afterKill(f, (store) => ids.map((id) => store.job(id)!.status)))
      .every((status) => status === "cancelled")
  );
});

Deno.test("a store on a full disk opens, and knows what a stop cut off", async () => {
  const folder = await Deno.makeTempDir();
  const first = new Store(folder);
  first.addJob("job-1", "train", {});
  first.beginJob("job-1");
  first.close();
  const { prepare } = DatabaseSync.prototype;
  let refused = 0;
  DatabaseSync.prototype.prepare = function (sql: string) {
    if (!sql.startsWith("INSERT")) return prepare.call(this, sql);
    refused++;
    throw Object.assign(new Error("database or disk is full"), { errcode: 13 });
  };
  const second = new Store(folder);
  try {
    assertEquals([second.job("job-1")!.status, second.job("job-1")!.error?.code], [
      "failed",
      "interrupted",
    ]);
  } finally {
    DatabaseSync.prototype.prepare = prepare;
  }
  assert(refused > 0);
  second.close();
  const third = new Store(folder);
  assertStrictEquals(third.job("job-1")!.error?.code, "interrupted");
  assertStrictEquals(third.events("job-1", 0, 10).at(-1)!.data.status, "failed");
  third.close();
  await Deno.remove(folder, { recursive: true });
});

Deno.test("held events have a bound; status is kept past it", () => {
  const written: Parameters<HeldWrites["write"]>[] = [];
  const held = new HeldWrites((...one) => void written.push(one), 1000);
  for (let i = 0; i < 100; i++) held.add("job-1", {}, [{ type: "metrics", data: { i } }], 7, 0);
  held.add("job-1", { status: "failed" }, [{ type: "status", data: { status: "failed" } }], 7, 0);
  const { events, dropped, change } = held.get("job-1")!;
  assert(events.length > 2 && events.length < 12);
  assertStrictEquals(events.length + dropped, 101);
  assertEquals(events.map(({ number }) => number), events.map((_, i) => 8 + i));
  assertEquals([events.at(-1)!.type, change], ["status", { status: "failed" }]);
  held.flush();
  const [[id, , all]] = written as [Parameters<HeldWrites["write"]>];
  assertEquals([id, all.length], ["job-1", events.length + 1]);
  const { message } = all.at(-1)!.data as { message: string };
  assert(message.startsWith(`${dropped} events of this job are not kept`));
  // Its memory is free again.
  held.add("job-2", {}, [{ type: "metrics", data: {} }], 0, 0);
  assertStrictEquals(held.get("job-2")!.events.length, 1);
  held.close();
});
