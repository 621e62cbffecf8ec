// A restart: what was queued waits again and runs in its order, what cannot run says why.

import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { assertThrows } from "../../asserts.ts";
import { planClassify, planEvaluate, planPartition, planTrain } from "../../../lib/jobs/plan.ts";
import { Queue } from "../../../lib/jobs/queue.ts";
import { restoreQueue } from "../../../lib/jobs/restore.ts";
import { Store } from "../../../lib/jobs/store.ts";
import { classifySettings, partitionSettings } from "../../../lib/par/settings.ts";
import { evaluateSettings, trainSettings } from "../../../lib/train/settings.ts";
import { endless, fakeEngine, usual } from "../../fake_engine.ts";
import { type Fixture, fixture } from "./fixture.ts";

/** A job of each kind, the first of them running for ever. */
async function oneOfEach(f: Fixture): Promise<string[]> {
  const model = "lorapar-tiny";
  const file = await f.upload("{}\n");
  const samples = [{ question: "1+1", answer: "2" }];
  const teachers = [{ name: "t", model }];
  const plans = [
    await planTrain(f, trainSettings.parse({ model, file })),
    await planClassify(f, classifySettings.parse({ samples, target_model: model, teachers })),
    await planPartition(f, partitionSettings.parse({ model, file, theta: 0.7 })),
    await planEvaluate(
      f,
      evaluateSettings.parse({ model, file, grader: { type: "string_check" } }),
    ),
    await planTrain(f, trainSettings.parse({ model, file, suffix: "x", classify: { teachers } })),
    await planTrain(f, trainSettings.parse({ model, file: await f.upload("{}\n") })),
  ];
  return plans.map((plan) => f.queue.submit(plan).id);
}

/** The same data folder as a process finds it that starts after a kill. */
async function restarted(f: Fixture) {
  const folder = `${f.folder}/copy`;
  for (const name of ["", "/uploads"]) {
    await Deno.mkdir(folder + name, { recursive: true });
    for (const entry of Deno.readDirSync(f.store.resolve(name))) {
      const path = `${name}/${entry.name}`;
      if (entry.isFile) await Deno.copyFile(f.store.resolve(path), folder + path);
    }
  }
  const store = new Store(folder);
  const engine = fakeEngine(usual);
  const queue = new Queue(store, engine, f.config.limits);
  const deps = { ...f, store, engine, queue };
  return {
    ...deps,
    restore: async () => (await restoreQueue(deps))(),
    async [Symbol.asyncDispose]() {
      await queue.close();
      store.close();
    },
  };
}

Deno.test("queued jobs of every kind run after a kill, in their order and as they were asked", async () => {
  await using f = await fixture({}, endless);
  const ids = await oneOfEach(f);
  await using again = await restarted(f);
  await again.restore();
  const last = await again.queue.wait(ids.at(-1)!, 10);
  assertStrictEquals(last.status, "succeeded", JSON.stringify(last.error));
  assertEquals(
    ids.map((id) => again.store.job(id)!.status),
    ["failed", "succeeded", "succeeded", "succeeded", "succeeded", "succeeded"],
  );
  assertStrictEquals(again.store.job(ids[0]!)!.error?.code, "interrupted");
  assertEquals(
    again.engine.tasks.map(({ kind }) => kind),
    ["classify", "partition", "evaluate", "train", "train"],
  );
  for (const id of ids.slice(1)) {
    assertEquals(again.store.job(id)!.request, f.store.job(id)!.request);
    const statuses = again.store.events(id, 0, 100).filter(({ type }) => type === "status");
    assertEquals(statuses.map(({ data }) => data.status), ["queued", "running", "succeeded"]);
  }
  assert(again.store.adapterOfModel("lorapar-tiny:x") !== null);
});

Deno.test("a queued job whose file is gone fails with the reason; the others run", async () => {
  await using f = await fixture({}, endless);
  const ids = await oneOfEach(f);
  const { file } = f.store.job(ids.at(-1)!)!.request as { file: string };
  await using again = await restarted(f);
  await again.store.removeFile(again.store.file(file)!);
  await again.restore();
  await again.queue.wait(ids.at(-2)!, 10);
  const { status, error, finished_at } = again.store.job(ids.at(-1)!)!;
  assertEquals([status, error?.code, error?.param], ["failed", "file_not_found", "file"]);
  assert(finished_at !== null);
  assertStrictEquals(again.store.job(ids.at(-2)!)!.status, "succeeded");
});

Deno.test("a kill between the start and the queueing changes nothing", async () => {
  await using f = await fixture({}, endless);
  const ids = await oneOfEach(f);
  await using again = await restarted(f);
  // Planned, and killed before it is queued: the rows still say queued.
  await restoreQueue(again);
  assertEquals(again.store.queuedJobs().map(({ id }) => id), ids.slice(1));
  await again.restore();
  assertStrictEquals((await again.queue.wait(ids.at(-1)!, 10)).status, "succeeded");
});

Deno.test("a restored job's files are in use, and its model's name is taken", async () => {
  await using f = await fixture({}, endless);
  const ids = await oneOfEach(f);
  await using again = await restarted(f);
  again.engine.behave = endless;
  await again.restore();
  const { file } = again.store.job(ids.at(-1)!)!.request as { file: string };
  assertStrictEquals(again.queue.userOf(file), ids.at(-1));
  const settings = trainSettings.parse({ model: "lorapar-tiny", file, suffix: "x" });
  const same = await planTrain(again, settings);
  assertThrows(() => again.queue.submit(same), /a job that waits or runs will/);
});
