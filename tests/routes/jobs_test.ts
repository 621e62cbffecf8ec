import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { Store } from "../../lib/jobs/store.ts";
import { endless, usual } from "../fake_engine.ts";
import { InvalidRequest } from "../../lib/errors.ts";
import { type AppFixture, appFixture, type Json } from "./fixture.ts";

interface Sent {
  id: number;
  event: string;
  data: Json;
}

function parseSse(text: string): Sent[] {
  return text.split("\n\n").filter((block) => block.startsWith("event:")).map((block) => {
    const fields = Object.fromEntries(
      block.split("\n").map((
        line,
      ) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 2)]),
    );
    return { id: Number(fields.id), event: fields.event, data: JSON.parse(fields.data) };
  });
}

/** A job that runs until it is cancelled, its first progress there, or one that waits behind such. */
async function startEndless(f: AppFixture): Promise<Json> {
  const file = await f.base.upload("{}\n");
  const [status, job] = await f.post("/v1/train", { model: "lorapar-tiny", file });
  assertStrictEquals(status, 202);
  while (job.status === "running" && f.base.store.job(job.id)!.progress === null) {
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  return job;
}

Deno.test("a job is answered at once, then listed and retrieved", async () => {
  await using f = await appFixture({}, endless);
  const job = await startEndless(f);
  assertEquals([job.object, job.kind, job.status], ["job", "train", "running"]);
  assertEquals(job.request.model, "lorapar-tiny");
  const [, found] = await f.get(`/v1/jobs/${job.id}`);
  assertEquals(found.progress, { phase: "sft", done: 1, total: 9, unit: "steps", eta_s: 8 });
  const [, list] = await f.get("/v1/jobs");
  assertEquals([list.data.length, list.first_id, list.has_more], [1, job.id, false]);
  assertStrictEquals((await f.get("/v1/jobs/job-1"))[0], 404);
});

Deno.test("Prefer: wait answers the ended job, or the job as it is when time is up", async () => {
  await using f = await appFixture();
  const job = await f.trained();
  assert(job.finished_at !== null && job.result.adapter);
  f.base.engine.behave = endless;
  const file = await f.base.upload("{}\n");
  const body = { model: "lorapar-tiny", file };
  const [status, waiting] = await f.post("/v1/train", body, { prefer: "respond-async, wait=1" });
  assertEquals([status, waiting.status], [202, "running"]);
});

Deno.test("lists are paged by after and limit", async () => {
  await using f = await appFixture();
  const ids = [];
  for (let i = 0; i < 3; i++) ids.unshift((await f.trained()).id);
  const [, first] = await f.get("/v1/jobs?limit=2");
  assertEquals([first.data.map((job: Json) => job.id), first.has_more], [ids.slice(0, 2), true]);
  const [, second] = await f.get(`/v1/jobs?limit=2&after=${first.last_id}`);
  assertEquals([second.data.map((job: Json) => job.id), second.has_more], [ids.slice(2), false]);
  const [status, error] = await f.get("/v1/jobs?after=job-none");
  assertEquals([status, error.error.param], [400, "after"]);
  assertEquals((await f.get("/v1/jobs?limit=0"))[1].error.param, "limit");
});

Deno.test("jobs are listed by kind and status, page by page", async () => {
  await using f = await appFixture();
  const trained = [];
  for (let i = 0; i < 3; i++) trained.unshift((await f.trained()).id);
  f.base.engine.behave = endless;
  const running = (await startEndless(f)).id;
  const queued = (await startEndless(f)).id;
  const list = async (query: string) => {
    const [, page] = await f.get(`/v1/jobs?${query}`);
    return page.data.map((job: Json) => job.id);
  };
  assertEquals(await list("status=running"), [running]);
  assertEquals(await list("status=queued"), [queued]);
  assertEquals(await list("status=succeeded&kind=train"), trained);
  assertEquals(await list("status=succeeded&kind=evaluate"), []);
  assertEquals(await list(`status=succeeded&limit=1&after=${trained[0]}`), [trained[1]]);
  for (const query of ["status=done", "kind=", "statsu=running"]) {
    assertStrictEquals((await f.get(`/v1/jobs?${query}`))[0], 400, query);
  }
});

Deno.test("cancel: running, waiting, twice, and too late", async () => {
  await using f = await appFixture({}, endless);
  const running = await startEndless(f);
  const waiting = await startEndless(f);
  const [, cancelled] = await f.post(`/v1/jobs/${waiting.id}/cancel`);
  assertStrictEquals(cancelled.status, "cancelled");
  assertStrictEquals((await f.post(`/v1/jobs/${running.id}/cancel`))[0], 200);
  assertStrictEquals((await f.base.queue.wait(running.id, 10)).status, "cancelled");
  assertStrictEquals((await f.post(`/v1/jobs/${running.id}/cancel`))[0], 200);
  f.base.engine.behave = usual;
  const done = await f.trained();
  const [status, error] = await f.post(`/v1/jobs/${done.id}/cancel`);
  assertEquals([status, error.error.code], [409, "conflict"]);
  assertStrictEquals((await f.post("/v1/jobs/job-1/cancel"))[0], 404);
});

Deno.test("pause and resume say that they cannot, and that a retry will not help", async () => {
  await using f = await appFixture();
  const job = await f.trained();
  for (const step of ["pause", "resume"]) {
    const response = await f.request(`/v1/jobs/${job.id}/${step}`, { method: "POST" });
    assertStrictEquals(response.status, 409);
    assertStrictEquals(response.headers.get("x-should-retry"), "false");
    assert((await response.json()).error.message.startsWith(`Cannot ${step} ${job.id}`));
  }
});

Deno.test("events are numbered, end with the job, and are replayed from any number", async () => {
  await using f = await appFixture();
  const job = await f.trained();
  const path = `/v1/jobs/${job.id}/events`;
  const response = await f.request(path);
  assert(response.headers.get("content-type")!.startsWith("text/event-stream"));
  const all = parseSse(await response.text());
  assertEquals(all.map((event) => event.id), all.map((_, index) => index + 1));
  assertEquals(
    new Set(all.map((event) => event.event)),
    new Set(["status", "progress", "metrics", "sample", "log"]),
  );
  assertEquals(all.at(-1)!.data.status, "succeeded");
  const rest = await f.request(path, { headers: { "last-event-id": "3" } });
  assertEquals(parseSse(await rest.text()), all.slice(3));
  const wrong = await f.request(path, { headers: { "last-event-id": "x" } });
  assertStrictEquals(wrong.status, 400);
  assertStrictEquals((await f.get("/v1/jobs/job-1/events"))[0], 404);
});

Deno.test("a live stream tells events as they come, with heartbeats between", async () => {
  await using f = await appFixture({ limits: { heartbeat_seconds: 0.01 } }, endless);
  const job = await startEndless(f);
  const response = await f.request(`/v1/jobs/${job.id}/events`);
  let text = "";
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  while (!text.includes(": heartbeat")) text += (await reader.read()).value;
  await f.post(`/v1/jobs/${job.id}/cancel`);
  for (let next = await reader.read(); !next.done; next = await reader.read()) text += next.value;
  assertEquals(
    parseSse(text).map(({ event, data }) => [event, data.status ?? data.done]),
    [["status", "queued"], ["status", "running"], ["progress", 1], ["status", "cancelled"]],
  );
});

Deno.test("a stream ends when the server stops, and when its reader leaves", async () => {
  await using f = await appFixture({}, endless);
  const job = await startEndless(f);
  const left = await f.request(`/v1/jobs/${job.id}/events`);
  await left.body!.cancel();
  const open = await f.request(`/v1/jobs/${job.id}/events`);
  const text = open.text();
  f.shutdown.abort();
  await text;
});

Deno.test("metrics come as JSON or CSV, samples as a list, checkpoints empty", async () => {
  await using f = await appFixture();
  const { id } = await f.trained();
  const [, metrics] = await f.get(`/v1/jobs/${id}/metrics`);
  assertEquals(
    metrics.data.map(({ phase, step, loss }: Json) => [phase, step, loss]),
    [["sft", 1, 2.5], ["sft", 2, 1.5]],
  );
  const [, later] = await f.get(`/v1/jobs/${id}/metrics?after=${metrics.data[0].id}`);
  assertEquals(later.data, metrics.data.slice(1));
  const csv = await f.request(`/v1/jobs/${id}/metrics`, { headers: { accept: "text/csv" } });
  assertStrictEquals(
    await csv.text(),
    "phase,step,loss,grad_norm\r\nsft,1,2.5,1\r\nsft,2,1.5,\r\n",
  );
  const [, samples] = await f.get(`/v1/jobs/${id}/samples`);
  assertEquals(samples.data.map((sample: Json) => sample.completion), ["2"]);
  assertEquals((await f.get(`/v1/jobs/${id}/checkpoints`))[1].data, []);
  for (const what of ["metrics", "samples", "checkpoints"]) {
    assertStrictEquals((await f.get(`/v1/jobs/job-1/${what}`))[0], 404);
  }
});

Deno.test("an error of the engine is the job's error", async () => {
  await using f = await appFixture();
  f.base.engine.behave = () =>
    Promise.reject(new InvalidRequest("Cannot partition one-sided data.", "file", "one_sided"));
  const file = await f.base.upload("{}\n");
  const [status, job] = await f.post(
    "/v1/partition",
    { model: "lorapar-tiny", file },
    { prefer: "wait=10" },
  );
  assertEquals([status, job.status], [200, "failed"]);
  assertEquals(job.error, {
    message: "Cannot partition one-sided data.",
    type: "invalid_request_error",
    param: "file",
    code: "one_sided",
  });
});

Deno.test("a restart still has the jobs, marks the cut-off one and tells its events", async () => {
  await using f = await appFixture({}, endless);
  const job = await startEndless(f);
  // What a crash leaves: the rows as they are, nothing closed in order.
  const copy = await Deno.makeTempDir();
  for (const name of ["lorapar.sqlite", "lorapar.sqlite-wal"]) {
    await Deno.copyFile(f.base.store.resolve(name), `${copy}/${name}`);
  }
  const store = new Store(copy);
  const found = store.job(job.id)!;
  assertEquals([found.status, found.error?.code], ["failed", "interrupted"]);
  assertEquals(
    store.events(job.id, 0, 10).map((event) => event.type),
    ["status", "status", "progress", "status"],
  );
  store.close();
  await Deno.remove(copy, { recursive: true });
});

Deno.test("a classification that the queue has no place for leaves no file of its samples", async () => {
  await using f = await appFixture({ limits: { max_queued_jobs: 1 } }, endless);
  await startEndless(f);
  await startEndless(f);
  const before = (await f.get("/v1/files"))[1].data.length;
  const [status, { error }] = await f.post("/v1/classify", {
    samples: [{ question: "1+1", answer: "2" }],
    target_model: "lorapar-tiny",
    teachers: [{ name: "t", model: "lorapar-tiny" }],
  });
  assertEquals([status, error.code], [429, "queue_full"]);
  assertStrictEquals((await f.get("/v1/files"))[1].data.length, before);
  assertStrictEquals([...Deno.readDirSync(f.base.store.resolve("uploads"))].length, before);
});
