// What the server does while a training job runs on the real engine: it answers, a chat gets its turn
// between steps, a cancel takes effect at the next step, and a restart tells of the job it cut off.

import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { Store } from "../lib/jobs/store.ts";

import {
  type Json,
  labelledSamples,
  quickGrpo,
  quickSft,
  type RealServer,
  realServer,
} from "./real_server.ts";

const model = "lorapar-tiny";
const all = { data: "all", activate: "all" };

/** Far more steps than a test has time for. */
const endless: Record<string, Json> = {
  sft: { ...quickSft, ...all, max_steps: 100_000 },
  grpo: { ...quickGrpo, ...all, max_steps: 100_000, max_completion_length: 32 },
};

/** Starts a job and waits for its first metrics. */
async function running(server: RealServer, file: string, phase: string): Promise<string> {
  const body = { model, file, partition: null, lora: { r: 4 }, phases: [endless[phase]] };
  const [status, { id }] = await server.post("/v1/train", body);
  assertStrictEquals(status, 202);
  while ((await stepsOf(server, id)) === 0) await pause(20);
  return id;
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

async function stepsOf(server: RealServer, id: string): Promise<number> {
  const [, { data }] = await server.get(`/v1/jobs/${id}/metrics`);
  return data.length;
}

async function ended(server: RealServer, id: string): Promise<Json> {
  for (;;) {
    const [, job] = await server.get(`/v1/jobs/${id}`);
    if (job.status !== "running" && job.status !== "queued") return job;
    await pause(10);
  }
}

/** A copy of the data folder as a crash would leave it. */
async function copyOfStore(server: RealServer): Promise<string> {
  const copy = `${server.folder}/crashed`;
  await Deno.mkdir(copy);
  for await (const { name, isFile } of Deno.readDir(`${server.folder}/data`)) {
    if (isFile) await Deno.copyFile(`${server.folder}/data/${name}`, `${copy}/${name}`);
  }
  return copy;
}

Deno.test("the server while a job trains", async (t) => {
  await using server = await realServer();
  const file = await server.upload(labelledSamples(12));
  const chat = (name: string) =>
    server.post("/v1/chat/completions", {
      model: name,
      messages: [{ role: "user", content: "Hi" }],
      max_tokens: 4,
    });

  for (const phase of ["sft", "grpo"]) {
    await t.step(
      `${phase}: lists and chats are answered between steps, a cancel ends it`,
      async () => {
        const id = await running(server, file, phase);
        const before = await stepsOf(server, id);
        const answers = await Promise.all([chat(model), chat("lorapar-teacher-a")]);
        assertEquals(answers.map(([status]) => status), [200, 200]);
        for (let i = 0; i < 5; i++) {
          const [status, { data }] = await server.get("/v1/jobs");
          assertStrictEquals(status, 200);
          assertEquals([data[0].id, data[0].status], [id, "running"]);
        }
        while (await stepsOf(server, id) <= before) await pause(10);

        const atCancel = await stepsOf(server, id);
        assertStrictEquals((await server.post(`/v1/jobs/${id}/cancel`))[0], 200);
        const job = await ended(server, id);
        assertEquals([job.status, job.result, job.error], ["cancelled", null, null]);
        // The step under way may still end.
        assert(await stepsOf(server, id) <= atCancel + 2);
        assertEquals((await server.get("/v1/adapters"))[1].data, []);
      },
    );
  }

  await t.step("a job that waits is cancelled at once, the next one runs", async () => {
    const first = await running(server, file, "sft");
    const body = { model, file, partition: null, phases: [{ ...quickSft, ...all, max_steps: 1 }] };
    const [[, second], [, third]] = [
      await server.post("/v1/train", body),
      await server.post("/v1/train", body),
    ];
    assertStrictEquals(third.status, "queued");
    assertStrictEquals((await server.post(`/v1/jobs/${second.id}/cancel`))[1].status, "cancelled");
    await server.post(`/v1/jobs/${first}/cancel`);
    assertStrictEquals((await ended(server, first)).status, "cancelled");
    const { status, result } = await ended(server, third.id);
    assertStrictEquals(status, "succeeded");
    assertEquals((await server.get("/v1/adapters"))[1].data.map(({ id }: Json) => id), [
      result.adapter,
    ]);
  });

  await t.step(
    "after a crash the running job is marked interrupted, the rest is there",
    async () => {
      const id = await running(server, file, "sft");
      const steps = await stepsOf(server, id);
      const store = new Store(await copyOfStore(server));
      try {
        const job = store.job(id)!;
        assertEquals([job.status, job.error?.code], ["failed", "interrupted"]);
        assert(store.events(id, 0, 10_000, "metrics").length >= steps);
        assertStrictEquals(store.adapters({ limit: 10, order: "asc" }).data.length, 1);
        assertStrictEquals(store.file(file)?.filename, "train.jsonl");
      } finally {
        store.close();
      }
      await server.post(`/v1/jobs/${id}/cancel`);
      assertStrictEquals((await ended(server, id)).status, "cancelled");
    },
  );
});
