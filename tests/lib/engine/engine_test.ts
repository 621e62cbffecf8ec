// Supervision: an engine that dies or hangs is started again, what it was at fails, the rest goes on.

import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { type EngineOptions, startEngine } from "../../../lib/engine/engine.ts";
import type { ChatTask } from "../../../lib/engine/messages.ts";
import { close } from "../../../commands/program.ts";
import { planEvaluate, planTrain } from "../../../lib/jobs/plan.ts";
import { Queue } from "../../../lib/jobs/queue.ts";
import type { Store } from "../../../lib/jobs/store.ts";
import { evaluateSettings, trainSettings } from "../../../lib/train/settings.ts";
import { Cancelled, GpuError } from "../../../lib/errors.ts";
import { fixture } from "../jobs/fixture.ts";
import { assertRejects } from "../../asserts.ts";

/** A chat whose model says what the fake Worker does; see fake_worker.ts. */
const chat = (id: string, maxTokens = 1): ChatTask => ({
  kind: "chat",
  model: { id, baseId: id, path: id, adapterFolder: null },
  messages: [],
  maxTokens,
  temperature: 0,
  topP: 1,
  topK: 0,
  minP: 0,
  seed: 0,
  stop: [],
  n: 1,
});

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

async function until(isSo: () => boolean): Promise<void> {
  // Half a minute: starting a Worker takes long on a busy machine.
  for (let i = 0; i < 6000 && !isSo(); i++) await pause(5);
  assert(isSo());
}

async function withEngine(
  options: EngineOptions,
  test: (engine: ReturnType<typeof startEngine>) => Promise<void>,
): Promise<void> {
  const workerUrl = new URL("./fake_worker.ts", import.meta.url);
  const engine = startEngine({ workerUrl, graceMs: 100, ...options });
  try {
    await test(engine);
  } finally {
    await engine.close();
  }
}

const stopped = (word: RegExp) => (error: unknown) =>
  error instanceof GpuError && error.code === "engine_stopped" && word.test(error.message) &&
  /Send the request again/.test(error.message);

Deno.test("an engine that dies fails what it was at and is started again by itself", () =>
  withEngine({}, async (engine) => {
    assert(/starting/.test(engine.problem()!));
    await until(() => engine.problem() === null);
    const working = engine.run(chat("work"));
    // Sent after the one that kills the Worker, so it has not begun.
    const dying = engine.run(chat("die"));
    const waiting = engine.run(chat("answer", 7));
    const failed = Promise.all([
      assertRejects(dying, stopped(/met its end/)),
      assertRejects(working, stopped(/met its end/)),
    ]);
    await failed;
    assert(/started again/.test(engine.problem()!));
    assertStrictEquals((await waiting).promptTokens, 7);
    await until(() => engine.problem() === null);
    assertStrictEquals((await engine.run(chat("answer", 8))).promptTokens, 8);
  }));

Deno.test("an engine that gives no sign of life is replaced", () =>
  withEngine({ silenceMs: 600 }, async (engine) => {
    await until(() => engine.problem() === null);
    // Shorter than the deadline: a long step is no reason to restart.
    assertStrictEquals((await engine.run(chat("block", 300))).promptTokens, 300);
    const begin = performance.now();
    const hung = engine.run(chat("block", 3000));
    const waiting = engine.run(chat("answer", 5));
    await assertRejects(hung, stopped(/no sign of life for 1 s/));
    assert(performance.now() - begin < 2500);
    assertStrictEquals((await waiting).promptTokens, 5);
  }));

Deno.test("an engine that cannot be started says so and fails what waits for it", () =>
  withEngine(
    { workerUrl: new URL("data:text/javascript,throw new Error('cut off')") },
    async (engine) => {
      const isDown = (error: unknown) => error instanceof GpuError && error.code === "engine_down";
      await assertRejects(engine.run(chat("answer")), isDown);
      assert(/The engine stopped: .*cut off/.test(engine.problem()!));
      await assertRejects(engine.run(chat("answer")), isDown);
    },
  ));

Deno.test("an engine without a device says why", () =>
  withEngine({ choicesPath: "Cannot find a GPU adapter." }, async (engine) => {
    await until(() => engine.problem() === "Cannot find a GPU adapter.");
  }));

Deno.test("a task that is at its texts is cancelled at once, whatever the engine's thread does", async () => {
  const folder = await Deno.makeTempDir();
  const path = `${folder}/loop.jsonl`;
  await Deno.writeTextFile(path, "{}\n");
  const workerUrl = new URL("./text/breaking_worker.ts", import.meta.url);
  try {
    await withEngine({ texts: { workerUrl } }, async (engine) => {
      await until(() => engine.problem() === null);
      const task = { ...chat("read", 3000), messages: [{ role: "user", content: path }] };
      const stop = new AbortController();
      const reading = engine.run(task, undefined, stop.signal);
      await pause(300);
      const begin = performance.now();
      stop.abort();
      await assertRejects(reading, Cancelled);
      assert(performance.now() - begin < 1000);
      // The engine hears of it later, and what it still asks for is refused: it waits for no answer.
      await until(() => [...Deno.readDirSync(folder)].length === 2);
    });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("a cancelled task ends at its next step, at once when it has not begun", () =>
  withEngine({}, async (engine) => {
    await until(() => engine.problem() === null);
    const [first, second, third] = [
      new AbortController(),
      new AbortController(),
      new AbortController(),
    ];
    const working = engine.run(chat("work"), undefined, first.signal);
    await pause(20);
    const blocking = engine.run(chat("block", 500));
    const waiting = engine.run(chat("answer"), undefined, second.signal);
    third.abort();
    await assertRejects(engine.run(chat("answer"), undefined, third.signal), Cancelled);
    await pause(20);
    const begin = performance.now();
    second.abort();
    await assertRejects(waiting, Cancelled);
    assert(performance.now() - begin < 250);
    first.abort();
    await assertRejects(working, Cancelled);
    await blocking;
  }));

Deno.test("close asks, then ends what does not stop", async () => {
  await withEngine({}, async (engine) => {
    await until(() => engine.problem() === null);
    const begun = [engine.run(chat("work")), engine.run(chat("ignore"))];
    const ends = Promise.all(begun.map((task) => assertRejects(task, Cancelled)));
    await pause(20);
    const begin = performance.now();
    await engine.close();
    assert(performance.now() - begin < 1000);
    await ends;
    assert(/stopping/.test(engine.problem()!));
    await assertRejects(engine.run(chat("answer")), Cancelled);
    await engine.close();
  });
  await withEngine({ graceMs: 60_000 }, async (engine) => {
    await until(() => engine.problem() === null);
    const blocked = engine.run(chat("block", 300));
    const working = engine.run(chat("work"));
    const ends = assertRejects(working, Cancelled);
    await pause(50);
    const begin = performance.now();
    await engine.close();
    assert(performance.now() - begin < 30_000, "the grace is no fixed wait");
    await ends;
    assertEquals((await blocked).promptTokens, 300);
  });
});

Deno.test("queued jobs go on after a restart, and a stop with a job that hangs is quick", async () => {
  await using f = await fixture();
  const file = await f.upload("{}\n");
  const { reference } = await f.models.get("lorapar-tiny");
  const grader = { type: "math_answer" };
  const evaluation = await planEvaluate(
    f,
    evaluateSettings.parse({ model: "lorapar-tiny", file, grader }),
  );
  const training = await planTrain(f, trainSettings.parse({ model: "lorapar-tiny", file }));
  const engine = startEngine({
    workerUrl: new URL("./fake_worker.ts", import.meta.url),
    graceMs: 100,
  });
  const queue = new Queue(f.store, engine, f.config.limits);
  const [first, second, third] = [training, evaluation, training].map((plan) =>
    queue.submit(plan).id
  );
  await pause(100);
  assertStrictEquals(f.store.job(first)!.status, "running");
  await assertRejects(engine.run({ ...chat("die"), model: { ...reference, id: "die" } }), GpuError);
  const failed = await queue.wait(first, 10);
  assertEquals([failed.status, failed.error?.code], ["failed", "engine_stopped"]);
  assertStrictEquals((await queue.wait(second, 10)).status, "succeeded");
  await until(() => f.store.job(third)!.status === "running");
  const begin = performance.now();
  // The fixture closes its store itself.
  const store = { close() {} } as Store;
  const shutdown = new AbortController().signal;
  await close({ ...f, engine, queue, store, shutdown, version: "0.0.0" });
  assert(performance.now() - begin < 3000);
  const { status, error } = f.store.job(third)!;
  assertEquals([status, error?.code], ["failed", "interrupted"]);
});

Deno.test("an error's name is looked up among ours only", () =>
  withEngine({}, async (engine) => {
    await assertRejects(engine.run(chat("constructor")), ({ name }) => name === "Error");
  }));
