import { configure, reset } from "@logtape/logtape";
import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { assertThrows } from "../../asserts.ts";
import { Cancelled, GpuError, InvalidFile, NumericError } from "../../../lib/errors.ts";
import type { Task } from "../../../lib/engine/messages.ts";
import { planClassify, planPartition, planTrain } from "../../../lib/jobs/plan.ts";
import { partitionSettings } from "../../../lib/par/settings.ts";
import { classifySettings } from "../../../lib/par/settings.ts";
import { trainSettings } from "../../../lib/train/settings.ts";
import { type Behaviour, endless, usual } from "../../fake_engine.ts";
import { type Fixture, fixture } from "./fixture.ts";

async function trainPlan(f: Fixture, more: Record<string, unknown> = {}) {
  const file = await f.upload("{}\n");
  return await planTrain(f, trainSettings.parse({ model: "lorapar-tiny", file, ...more }));
}

Deno.test("jobs run one at a time, in the order they came", async () => {
  const log: string[] = [];
  const slow: Behaviour = async (task, onEvent, signal) => {
    const name = (task as Extract<Task, { kind: "train" }>).request.suffix;
    log.push(`+${name}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
    log.push(`-${name}`);
    return usual(task, onEvent, signal);
  };
  await using f = await fixture({}, slow);
  const plans = [];
  for (const suffix of ["a", "b", "c"]) plans.push(await trainPlan(f, { suffix }));
  const jobs = plans.map((plan) => f.queue.submit(plan));
  assertEquals(jobs.map((job) => job.status), ["running", "queued", "queued"]);
  const ended = await f.queue.wait(jobs[2]!.id, 10);
  assertEquals(ended.status, "succeeded");
  assertEquals(log, ["+a", "-a", "+b", "-b", "+c", "-c"]);
});

Deno.test("a training leaves adapter, partition and a model by its name", async () => {
  await using f = await fixture();
  const job = await f.queue.wait(f.queue.submit(await trainPlan(f, { suffix: "first" })).id, 10);
  const result = job.result as Record<string, string>;
  assertStrictEquals(result.model, "lorapar-tiny:first");
  const adapter = f.store.adapter(result.adapter!)!;
  assertEquals([adapter.base, adapter.partition_id], ["lorapar-tiny", result.partition]);
  assertEquals(f.store.partition(result.partition!)!.report.elements, 8);
  const { reference } = await f.models.get("lorapar-tiny:first");
  assert(Deno.statSync(`${reference.adapterFolder}/adapter_config.json`).isFile);
  assertEquals(job.progress, { phase: "sft", done: 2, total: 2, unit: "steps", eta_s: 0 });
  const types = f.store.events(job.id, 0, 100).map((event) => event.type);
  assertEquals(types.filter((type) => type === "metrics").length, 2);
  assertEquals([types[0], types.at(-1)], ["status", "status"]);
});

Deno.test("a training without suffix is named by its adapter, one without partition has none", async () => {
  await using f = await fixture();
  const job = await f.queue.wait(f.queue.submit(await trainPlan(f, { partition: null })).id, 10);
  const result = job.result as Record<string, string | null>;
  assertStrictEquals(result.model, `lorapar-tiny:${result.adapter}`);
  assertStrictEquals(result.partition, null);
});

Deno.test("a classification leaves a file, a partition its row", async () => {
  await using f = await fixture();
  const classify = await planClassify(
    f,
    classifySettings.parse({
      samples: [{ question: "1+1", answer: "2" }],
      target_model: "lorapar-tiny",
      teachers: [{ name: "t", model: "lorapar-tiny" }],
    }),
  );
  const first = await f.queue.wait(f.queue.submit(classify).id, 10);
  const { file, counts } = first.result as { file: string; counts: { system1: number } };
  assertStrictEquals(counts.system1, 1);
  const row = f.store.file(file)!;
  assertEquals([row.purpose, row.filename], ["classified", "classified.jsonl"]);
  assertStrictEquals(row.bytes, Deno.statSync(f.store.resolve(row.path)).size);
  // The inline samples became a file; the job's row does not carry them.
  assert(!("samples" in (first.request as Record<string, unknown>)));
  const [task] = f.engine.tasks as [Extract<Task, { kind: "classify" }>];
  assertStrictEquals(
    await Deno.readTextFile(task.file!.path),
    '{"question":"1+1","answer":"2"}\n',
  );

  const partition = await planPartition(
    f,
    partitionSettings.parse({ model: "lorapar-tiny", file }),
  );
  const second = await f.queue.wait(f.queue.submit(partition).id, 10);
  const id = (second.result as { partition: string }).partition;
  assertStrictEquals(f.store.partition(id)!.job_id, second.id);
});

Deno.test("a failing engine fails its job with the error's fields, and the next one runs", async () => {
  await using f = await fixture();
  f.engine.behave = () =>
    Promise.reject(new NumericError("The loss is NaN at step 3.", "phases[0]"));
  const failed = await f.queue.wait(f.queue.submit(await trainPlan(f)).id, 10);
  assertEquals([failed.status, failed.error], ["failed", {
    message: "The loss is NaN at step 3.",
    type: "server_error",
    param: "phases[0]",
    code: "not_finite",
  }]);
  f.engine.behave = usual;
  assertStrictEquals(
    (await f.queue.wait(f.queue.submit(await trainPlan(f)).id, 10)).status,
    "succeeded",
  );
});

Deno.test("a result whose files are missing fails the job and leaves no row", async () => {
  await using f = await fixture();
  f.engine.behave = async (task, onEvent, signal) => {
    const result = await usual(task, onEvent, signal);
    await Deno.remove(`${(task as { outputFolder: string }).outputFolder}/partition`, {
      recursive: true,
    });
    return result;
  };
  const job = await f.queue.wait(f.queue.submit(await trainPlan(f)).id, 10);
  assertStrictEquals(job.status, "failed");
  assertEquals(f.store.adapters({ limit: 10, order: "asc" }).data, []);
});

Deno.test("cancel ends a waiting job at once and a running one at its next step", async () => {
  await using f = await fixture({}, endless);
  const running = f.queue.submit(await trainPlan(f));
  const waiting = f.queue.submit(await trainPlan(f));
  assertStrictEquals(f.queue.cancel(f.store.job(waiting.id)!).status, "cancelled");
  assertStrictEquals(f.store.job(running.id)!.status, "running");
  f.queue.cancel(f.store.job(running.id)!);
  const ended = await f.queue.wait(running.id, 10);
  assertEquals([ended.status, ended.error], ["cancelled", null]);
  // Again is no error; a job that ended otherwise cannot be cancelled.
  assertStrictEquals(f.queue.cancel(ended).status, "cancelled");
  f.engine.behave = usual;
  const done = await f.queue.wait(f.queue.submit(await trainPlan(f)).id, 10);
  assertThrows(() => f.queue.cancel(done), /it has ended already \(succeeded\)/);
});

Deno.test("closing marks the running job as interrupted and leaves waiting ones queued", async () => {
  await using f = await fixture({}, endless);
  const ids = [f.queue.submit(await trainPlan(f)).id, f.queue.submit(await trainPlan(f)).id];
  await f.queue.close();
  assertEquals(ids.map((id) => f.store.job(id)!.status), ["failed", "queued"]);
  assertStrictEquals(f.store.job(ids[0]!)!.error?.code, "interrupted");
  const plan = await trainPlan(f);
  assertThrows(() => f.queue.submit(plan), /the server is stopping/);
});

Deno.test("waiting ends by time too, and answers the job as it is", async () => {
  await using f = await fixture({}, endless);
  const job = f.queue.submit(await trainPlan(f));
  assertStrictEquals((await f.queue.wait(job.id, 0.01)).status, "running");
  // A client that has left already is no reason to wait.
  assertStrictEquals((await f.queue.wait(job.id, 60, AbortSignal.abort())).status, "running");
});

Deno.test("the queue has a bound, and two jobs cannot wait for one model name", async () => {
  await using f = await fixture({ limits: { max_queued_jobs: 1 } }, endless);
  f.queue.submit(await trainPlan(f, { suffix: "same" }));
  const again = await trainPlan(f, { suffix: "same" });
  assertThrows(() => f.queue.submit(again), /Choose another suffix/);
  f.queue.submit(await trainPlan(f));
  const third = await trainPlan(f);
  assertThrows(() => f.queue.submit(third), /1 wait already/);
});

Deno.test("the queue knows which job needs a file", async () => {
  await using f = await fixture({}, endless);
  const plan = await trainPlan(f);
  const job = f.queue.submit(plan);
  assertStrictEquals(f.queue.userOf(plan.request.file), job.id);
  f.queue.cancel(job);
  await f.queue.wait(job.id, 10);
  assertStrictEquals(f.queue.userOf(plan.request.file), null);
});

Deno.test("an event that cannot be stored fails the job, not the server", async () => {
  await using f = await fixture();
  f.engine.behave = (_task, onEvent, signal) =>
    new Promise((_, reject) => {
      signal.addEventListener("abort", () => reject(new Cancelled("Cancelled.")));
      const loop: Record<string, unknown> = {};
      loop.self = loop;
      onEvent({ type: "sample", sample: loop });
    });
  const job = await f.queue.wait(f.queue.submit(await trainPlan(f)).id, 10);
  assertStrictEquals(job.status, "failed");
  assertStrictEquals(job.error!.code, "internal_error");
});

Deno.test("an engine that is down fails no job: it waits, says so, and can be cancelled", async () => {
  await using f = await fixture();
  const down = () =>
    Promise.reject(new GpuError("The engine is being started again.", null, "engine_down"));
  f.engine.behave = down;
  const { id } = f.queue.submit(await trainPlan(f));
  const behind = f.queue.submit(await trainPlan(f));
  const logs = () => f.store.events(id, 0, 100, "log").map(({ data }) => data.message);
  while (logs().length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  assertStrictEquals(f.store.job(id)!.status, "running");
  assertEquals(logs(), [
    "This job waits for the engine. The engine is being started again.",
  ]);
  f.engine.behave = usual;
  assertStrictEquals((await f.queue.wait(id, 10)).status, "succeeded");
  assertStrictEquals(f.engine.tasks.length, 2);
  assertStrictEquals((await f.queue.wait(behind.id, 10)).status, "succeeded");
  f.engine.behave = down;
  const cancelled = f.queue.submit(await trainPlan(f));
  await new Promise((resolve) => setTimeout(resolve, 20));
  f.queue.cancel(cancelled);
  assertStrictEquals((await f.queue.wait(cancelled.id, 1)).status, "cancelled");
});

Deno.test("a job that is done when its cancel or the server's stop comes is not thrown away", async () => {
  for (const stop of ["cancel", "close"] as const) {
    await using f = await fixture();
    const { open } = Deno;
    const plan = await trainPlan(f);
    // The results are being synced.
    const syncing = Promise.withResolvers<void>();
    const go = Promise.withResolvers<void>();
    f.engine.behave = (task, onEvent, signal) => {
      Deno.open = async (path, options) => {
        syncing.resolve();
        await go.promise;
        return await open(path, options);
      };
      return usual(task, onEvent, signal);
    };
    try {
      const job = f.queue.submit(plan);
      await syncing.promise;
      const closing = stop === "close" ? f.queue.close() : f.queue.cancel(job);
      go.resolve();
      await closing;
      assertStrictEquals((await f.queue.wait(job.id, 10)).status, "succeeded", stop);
    } finally {
      Deno.open = open;
    }
  }
});

Deno.test("a cancel at any moment of a job's life leaves it ended, and the queue goes on", async () => {
  await using f = await fixture();
  for (let delay = 0; delay < 12; delay++) {
    const plan = await trainPlan(f);
    const { id } = f.queue.submit(plan);
    for (let i = 0; i < delay; i++) await new Promise((resolve) => setTimeout(resolve));
    try {
      f.queue.cancel(f.store.job(id)!);
    } catch (error) {
      assert(/it has ended already \(succeeded\)/.test((error as Error).message));
    }
    const { status } = await f.queue.wait(id, 10);
    assert(status === "cancelled" || status === "succeeded", status);
    const last = f.store.events(id, 0, 100).at(-1)!;
    assertEquals([last.type, last.data.status], ["status", status]);
    assertStrictEquals(f.queue.userOf(plan.request.file), null);
  }
});

Deno.test("a listener that throws stops neither its job nor the queue", async () => {
  await using f = await fixture();
  const first = f.queue.submit(await trainPlan(f));
  const second = f.queue.submit(await trainPlan(f));
  f.queue.subscribe(first.id, () => {
    throw new Error("no");
  });
  assertStrictEquals((await f.queue.wait(second.id, 10)).status, "succeeded");
  assertStrictEquals(f.store.job(first.id)!.status, "succeeded");
});

Deno.test("a failed job's error names no place on the server", async () => {
  await using f = await fixture();
  const behaviours: Behaviour[] = [
    () => Promise.reject(new InvalidFile(`Cannot read ${f.store.resolve("uploads/x")}: cut off.`)),
    // What it says it wrote is not there.
    () => Promise.resolve({ file: "classified.jsonl" }),
  ];
  const samples = [{ question: "1+1", answer: "2" }];
  const teachers = [{ name: "t", model: "lorapar-tiny" }];
  const settings = classifySettings.parse({ samples, target_model: "lorapar-tiny", teachers });
  const messages = [];
  for (f.engine.behave of behaviours) {
    const { id } = f.queue.submit(await planClassify(f, settings));
    messages.push((await f.queue.wait(id, 10)).error!.message);
  }
  assertStrictEquals(messages[0], "Cannot read uploads/x: cut off.");
  assert(!messages[1]!.includes(f.folder) && !messages[1]!.includes("classified"), messages[1]);
});

Deno.test("the log says when a job starts and how it ends", async () => {
  const lines: string[] = [];
  await configure({
    sinks: { lines: (record) => lines.push(`${record.level}: ${record.message.join("")}`) },
    loggers: [
      { category: ["lorapar", "jobs"], lowestLevel: "info", sinks: ["lines"] },
      { category: ["logtape", "meta"], lowestLevel: "warning", sinks: ["lines"] },
    ],
  });
  try {
    await using f = await fixture();
    const good = await f.queue.wait(f.queue.submit(await trainPlan(f)).id, 10);
    f.engine.behave = () => Promise.reject(new NumericError("The loss is NaN."));
    const bad = await f.queue.wait(f.queue.submit(await trainPlan(f)).id, 10);
    const told = lines.map((line) => line.replace(/[\d.]+ s$/, "N s"));
    assertEquals(told, [
      `info: ${good.id} (train) starts`,
      `info: ${good.id} (train) succeeded after N s`,
      `info: ${bad.id} (train) starts`,
      `warning: ${bad.id} failed: The loss is NaN.`,
      `info: ${bad.id} (train) failed after N s`,
    ]);
  } finally {
    await reset();
  }
});
