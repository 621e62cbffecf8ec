import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { NumericError } from "../../lib/errors.ts";
import { linkTiny } from "../lib/jobs/fixture.ts";
import { type AppFixture, appFixture, type Json } from "./fixture.ts";

const wait = { prefer: "wait=10" };

/** [status, param, code] of a refused post. */
async function refusal(f: AppFixture, path: string, body: unknown) {
  const [status, { error }] = await f.post(path, body);
  return [status, error.param, error.code];
}

Deno.test("classify answers a file with the votes' result", async () => {
  await using f = await appFixture();
  const body = {
    samples: [{ question: "1+1?", answer: "2" }],
    target_model: "lorapar-tiny",
    teachers: [{ name: "a", model: "lorapar-tiny" }],
  };
  const [status, job] = await f.post("/v1/classify", body, wait);
  assertEquals([status, job.status, job.kind], [200, "succeeded", "classify"]);
  assertStrictEquals(job.result.counts.system1, 1);
  const [, file] = await f.get(`/v1/files/${job.result.file}`);
  assertStrictEquals(file.purpose, "classified");

  assertEquals(await refusal(f, "/v1/classify", { ...body, tei: 1 }), [
    400,
    "tei",
    "unknown_field",
  ]);
  assertEquals(await refusal(f, "/v1/classify", { ...body, teachers: [] }), [
    400,
    "teachers",
    "invalid_value",
  ]);
  const teachers = [{ name: "a", model: "nobody" }];
  assertEquals(await refusal(f, "/v1/classify", { ...body, teachers }), [
    404,
    "teachers[0].model",
    "model_not_found",
  ]);
});

Deno.test("partition: made, listed, retrieved, rethresholded, downloaded, drawn", async () => {
  await using f = await appFixture();
  const file = await f.base.upload("{}\n");
  const [, job] = await f.post("/v1/partition", { model: "lorapar-tiny", file }, wait);
  const id = job.result.partition;
  const [, partition] = await f.get(`/v1/partitions/${id}`);
  assertEquals(
    [partition.object, partition.job, partition.source, partition.elements],
    ["partition", job.id, null, 8],
  );
  const [status, other] = await f.post(`/v1/partitions/${id}/rethreshold`, { theta: 0.5 });
  assertEquals([status, other.theta, other.alpha, other.source], [200, 0.5, 1, id]);
  assert(other.id !== id);
  assertEquals(
    (await f.get("/v1/partitions"))[1].data.map((one: Json) => one.id),
    [other.id, id],
  );
  const download = await f.request(`/v1/partitions/${other.id}/download`);
  const bytes = new Uint8Array(await download.arrayBuffer());
  assertStrictEquals(Number(download.headers.get("content-length")), bytes.length);
  assert(new TextDecoder().decode(bytes.slice(8, 200)).includes(".importance.system1"));

  const [, scatter] = await f.get(`/v1/partitions/${id}/scatter`);
  assertEquals(scatter.points, [
    { system1: 4, system2: 1, region: "system1_only" },
    { system1: 3, system2: 2, region: "shared" },
    { system1: 2, system2: 3, region: "system2_only" },
    { system1: 1, system2: 4, region: "inactive" },
  ]);
  assertStrictEquals(scatter.elements, 4);
  const [, two] = await f.get(`/v1/partitions/${id}/scatter?points=2`);
  assertEquals(two.points, [scatter.points[1], scatter.points[3]]);
  assertEquals((await f.get(`/v1/partitions/${id}/scatter?points=0`))[1].error.param, "points");

  const missing = id.replace(/.$/, (last: string) => last === "0" ? "1" : "0");
  for (const path of ["", "/download", "/scatter"]) {
    assertStrictEquals((await f.get(`/v1/partitions/${missing}${path}`))[0], 404);
  }
  assertEquals((await refusal(f, `/v1/partitions/${missing}/rethreshold`, {}))[0], 404);
});

Deno.test("partition: theta outside (0, 1], a zero-B adapter and missing data are refused", async () => {
  await using f = await appFixture();
  const file = await f.base.upload("{}\n");
  const body = { model: "lorapar-tiny", file };
  for (const theta of [0, 1.1, -0.5, "0.9"]) {
    assertEquals((await refusal(f, "/v1/partition", { ...body, theta })).slice(0, 2), [
      400,
      "theta",
    ]);
  }
  const lora = { init: "default" };
  assertEquals(await refusal(f, "/v1/partition", { ...body, lora }), [400, "lora.init", "zero_b"]);
  assertEquals((await refusal(f, "/v1/partition", { model: "lorapar-tiny" }))[0], 400);
  assertEquals(await refusal(f, "/v1/partition", { ...body, file: "file-1" }), [
    400,
    "file",
    "file_not_found",
  ]);
  assertEquals(await refusal(f, "/v1/partition", { ...body, model: "no" }), [
    404,
    "model",
    "model_not_found",
  ]);
  const [, job] = await f.post("/v1/partition", body, wait);
  const path = `/v1/partitions/${job.result.partition}/rethreshold`;
  assertEquals((await refusal(f, path, { theta: 0 })).slice(0, 2), [400, "theta"]);
  assertEquals((await refusal(f, path, { gamma: 1 })).slice(0, 2), [400, "gamma"]);
});

Deno.test("a rethreshold that fails leaves no partition and no folder", async () => {
  await using f = await appFixture();
  const file = await f.base.upload("{}\n");
  const [, job] = await f.post("/v1/partition", { model: "lorapar-tiny", file }, wait);
  f.base.engine.behave = () => Promise.reject(new NumericError("The importance holds NaN."));
  const path = `/v1/partitions/${job.result.partition}/rethreshold`;
  const response = await f.request(path, {
    method: "POST",
    body: "{}",
    headers: { "content-type": "application/json" },
  });
  assertStrictEquals(response.status, 500);
  assertStrictEquals(response.headers.get("x-should-retry"), "false");
  assertStrictEquals((await response.json()).error.code, "not_finite");
  assertStrictEquals((await f.get("/v1/partitions"))[1].data.length, 1);
  assertEquals([...Deno.readDirSync(f.base.store.resolve("partitions"))], []);
});

Deno.test("train: the job, its plan, and what is refused", async () => {
  await using f = await appFixture();
  const job = await f.trained({ suffix: "one" });
  assertStrictEquals(job.result.model, "lorapar-tiny:one");
  assertStrictEquals(job.request.phases.length, 2);
  const file = await f.base.upload("{}\n");
  const body = { model: "lorapar-tiny", file };
  const [status, plan] = await f.post("/v1/train?dry_run=true", body);
  assertEquals([status, plan.fits, plan.elements.total], [200, true, 8]);
  assertStrictEquals((await f.get("/v1/jobs"))[1].data.length, 1);
  assertEquals((await f.post("/v1/train?dry_run=maybe", body))[1].error.param, "dry_run");

  const refused: [Record<string, unknown>, number, string][] = [
    [{ phases: [{ kind: "sft", learning_rate: "fast" }] }, 400, "phases[0].learning_rate"],
    [{ phases: [{ kind: "sft", lr: 1e-4 }] }, 400, "phases[0].lr"],
    [{ partition: { theta: 1.1 } }, 400, "partition.theta"],
    [{ partition: { lora: { init: "default" } } }, 400, "partition.lora.init"],
    [{ partition: "part-1" }, 400, "partition"],
    [{ suffix: "Not OK" }, 400, "suffix"],
    [{ suffix: "one" }, 409, "suffix"],
    [{ model: "lorapar-tiny:one" }, 400, "partition"],
    [{ model: "lorapar-tiny:one", partition: null, lora: {} }, 400, "lora"],
    [{ file: "file-1" }, 400, "file"],
    [
      { evaluate: { file, grader: { type: "regex", pattern: "(" } } },
      400,
      "evaluate.grader.pattern",
    ],
  ];
  for (const [more, wantedStatus, param] of refused) {
    const found = await refusal(f, "/v1/train", { ...body, ...more });
    assertEquals(found.slice(0, 2), [wantedStatus, param]);
  }
});

Deno.test("train takes a partition by its id, of the same model only", async () => {
  await using f = await appFixture();
  const first = await f.trained();
  const second = await f.trained({ partition: first.result.partition });
  assertStrictEquals(second.result.partition, first.result.partition);
  const task = f.base.engine.tasks.at(-1)!;
  assert(task.kind === "train" && task.partition!.folder.endsWith("/partition"));
  await linkTiny(`${f.base.folder}/models/teacher-a`);
  const file = await f.base.upload("{}\n");
  const body = { model: "lorapar-teacher-a", file, partition: first.result.partition };
  assertEquals((await refusal(f, "/v1/train", body)).slice(0, 2), [400, "partition"]);
});

Deno.test("train goes on from a trained model's adapter", async () => {
  await using f = await appFixture();
  const first = await f.trained({ suffix: "one" });
  const { partition } = first.result;
  const second = await f.trained({ model: "lorapar-tiny:one", partition, suffix: "two" });
  assertStrictEquals(second.result.model, "lorapar-tiny:two");
  const task = f.base.engine.tasks.at(-1)!;
  assert(task.kind === "train" && task.model.adapterFolder !== null);
  assertEquals([task.model.baseId, task.request.lora], ["lorapar-tiny", undefined]);
});

Deno.test("evaluate answers the accuracy and a file of answers", async () => {
  await using f = await appFixture();
  const file = await f.base.upload("{}\n");
  const body = { model: "lorapar-tiny", file, grader: { type: "math_answer" } };
  const [, job] = await f.post("/v1/evaluate", body, wait);
  assertEquals([job.result.accuracy, job.result.interval], [0.5, [0.1, 0.9]]);
  assertStrictEquals((await f.get(`/v1/files/${job.result.file}`))[1].filename, "answers.jsonl");
  assertEquals((await refusal(f, "/v1/evaluate", { ...body, grader: undefined }))[1], "grader");
  const grader = { type: "python" };
  assertEquals((await refusal(f, "/v1/evaluate", { ...body, grader }))[1], "grader.type");
});

Deno.test("adapters: listed, retrieved, downloaded as tar, deleted with their model", async () => {
  await using f = await appFixture();
  const { result } = await f.trained({ suffix: "one" });
  const path = `/v1/adapters/${result.adapter}`;
  const [, adapter] = await f.get(path);
  assertEquals(
    [adapter.object, adapter.base_model, adapter.model, adapter.partition],
    ["adapter", "lorapar-tiny", "lorapar-tiny:one", result.partition],
  );
  assertEquals((await f.get("/v1/adapters"))[1].data, [adapter]);
  const tar = await f.request(`${path}/download?format=peft`);
  assertStrictEquals(tar.headers.get("content-type"), "application/x-tar");
  const bytes = new Uint8Array(await tar.arrayBuffer());
  const text = new TextDecoder().decode(bytes);
  assertStrictEquals(bytes.length % 512, 0);
  assert(text.startsWith("adapter_config.json\0"));
  assert(text.includes('{"peft_type":"LORA"}') && text.includes("adapter_model.safetensors\0"));
  const [status, refused] = await f.get(`${path}/download?format=gguf`);
  assertEquals([status, refused.error.param], [400, "format"]);
  assert(/expected "peft"/.test(refused.error.message), refused.error.message);

  assertStrictEquals((await f.get("/v1/models/lorapar-tiny:one"))[0], 200);
  const gone = await f.request(path, { method: "DELETE" });
  assertEquals(await gone.json(), { id: result.adapter, object: "adapter", deleted: true });
  assertStrictEquals((await f.get(path))[0], 404);
  assertStrictEquals((await f.get(`${path}/download`))[0], 404);
  assertStrictEquals((await f.get("/v1/models/lorapar-tiny:one"))[0], 404);
  await f.trained({ suffix: "one" });
});

Deno.test("models: listed in OpenAI's shape, retrieved with details", async () => {
  await using f = await appFixture();
  const [, list] = await f.get("/v1/models");
  assertEquals(
    list.data.map(({ id, object, owned_by }: Json) => [id, object, owned_by]),
    [["lorapar-tiny", "model", "lorapar"]],
  );
  const [, model] = await f.get("/v1/models/lorapar-tiny");
  assertStrictEquals(model.details.architecture, "llama");
  const [status, { error }] = await f.get("/v1/models/gpt-4");
  assertEquals([status, error.code], [404, "model_not_found"]);
  assert(error.message.includes("lorapar-tiny"));
});

Deno.test("models that cannot be used are listed as such, and refused with the reason", async () => {
  const models = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(`${models}/damaged.gguf`, "x");
    await using f = await appFixture({ models });
    const [, list] = await f.get("/v1/models");
    const { data } = list;
    assertEquals(
      data.map(({ id, usable, reason }: Json) => [id, usable, reason === null]),
      [["lorapar-tiny", true, true], ["damaged", false, false]],
    );
    const [status, model] = await f.get("/v1/models/damaged");
    assertEquals([status, model], [200, { ...data[1], details: {} }]);
    const file = await f.base.upload("{}\n");
    const asked: [string, unknown][] = [
      ["/v1/chat/completions", { messages: [{ role: "user", content: "Hi" }] }],
      ["/v1/train", { file }],
      ["/v1/partition", { file }],
      ["/v1/evaluate", { file, grader: { type: "string_check" } }],
    ];
    for (const [path, body] of asked) {
      const [status, { error }] = await f.post(path, { ...body as object, model: "damaged" });
      assertEquals([status, error.code, error.param], [422, "model_unusable", "model"], path);
      assert(error.message.endsWith(data[1].reason), error.message);
    }
  } finally {
    await Deno.remove(models, { recursive: true });
  }
});
