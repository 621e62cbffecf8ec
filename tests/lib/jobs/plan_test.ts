import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { InvalidRequest } from "../../../lib/errors.ts";
import { planClassify, planEvaluate, planPartition, planTrain } from "../../../lib/jobs/plan.ts";
import { classifySettings, partitionSettings } from "../../../lib/par/settings.ts";
import { evaluateSettings, trainSettings } from "../../../lib/train/settings.ts";
import { type Fixture, fixture } from "./fixture.ts";

/** [param, code] of the refusal. */
async function refusal(plan: Promise<unknown>): Promise<[string | null, string]> {
  try {
    await plan;
  } catch (error) {
    assert(error instanceof InvalidRequest, String(error));
    return [error.param, error.code];
  }
  throw new Error("It was accepted.");
}

function classify(f: Fixture, teacher: Record<string, unknown>, more: object = {}) {
  return planClassify(
    f,
    classifySettings.parse({
      samples: [{ question: "q" }],
      target_model: "x",
      teachers: [{ name: "t", model: "lorapar-tiny", ...teacher }],
      ...more,
    }),
  );
}

Deno.test("teachers: local models by id, servers by the list of hosts", async () => {
  await using f = await fixture({ teacher_hosts: ["127.0.0.1", "[::1]:9", "judge.example:443"] });
  assertEquals(await refusal(classify(f, { model: "no" })), [
    "teachers[0].model",
    "model_not_found",
  ]);
  const allowed = [
    "http://127.0.0.1:1/v1",
    "https://127.0.0.1",
    "http://[::1]:9/v1",
    "https://judge.example/v1",
    "https://judge.example:443",
  ];
  for (const base_url of allowed) {
    const { task } = await classify(f, { base_url });
    assertEquals(task("out").localTeachers, new Map());
  }
  const refused = [
    "https://example.com/v1",
    "http://[::1]:10/v1",
    "http://judge.example/v1",
    "http://judge.example:443/v1",
    "https://judge.example:8443/v1",
    "https://127.0.0.1.example.com",
    "file:///etc/passwd",
    "ftp://127.0.0.1/",
    "http://user@127.0.0.1/",
  ];
  for (const base_url of refused) {
    const found = await refusal(classify(f, { base_url }));
    assertEquals(found, ["teachers[0].base_url", "url_not_allowed"], base_url);
  }
  const two = { teachers: [{ name: "t", model: "lorapar-tiny" }, { name: "t", model: "x" }] };
  assertEquals((await refusal(classify(f, {}, two)))[0], "teachers[1].name");
});

Deno.test("a teacher's key is the configuration's, for one host and port", async () => {
  await using f = await fixture({
    teacher_hosts: ["127.0.0.1", "judge.example"],
    teacher_keys: {
      "127.0.0.1:8000": "TEACHER_API_KEY",
      "judge.example:443": "TEACHER_API_KEY",
      "127.0.0.1:9": "NOT_SET",
    },
  });
  const keys = async (base_url: string, name = "t") => {
    const plan = await classify(f, { base_url, name });
    assert(!JSON.stringify(plan.request).includes("secret"));
    return plan.task("out").apiKeys;
  };
  for (const base_url of ["http://127.0.0.1:8000/v1", "https://judge.example/v1"]) {
    assertEquals(await keys(base_url), new Map([["t", "secret"]]), base_url);
  }
  for (const base_url of ["http://127.0.0.1:8001/v1", "http://judge.example/v1"]) {
    assertEquals(await keys(base_url), new Map(), base_url);
  }
  assertEquals(
    await keys("http://127.0.0.1:8000", "__proto__"),
    new Map([["__proto__", "secret"]]),
  );
  assertEquals(await refusal(classify(f, { base_url: "http://127.0.0.1:9/v1" })), [
    "teachers[0].base_url",
    "key_not_found",
  ]);
});

Deno.test("an adapter's base has the configured name, or its folder on this machine's own server", async () => {
  const of = async (config: Record<string, unknown>) => {
    await using f = await fixture(config);
    const request = trainSettings.parse({
      model: "lorapar-tiny",
      file: await f.upload("{}\n"),
      partition: null,
      phases: [{ kind: "sft", data: "all", activate: "all" }],
    });
    const { task } = await planTrain(f, request);
    return task("out").adapterBase;
  };
  assertEquals(await of({}), { name: null, folderMayBeTold: true });
  assertEquals(await of({ host: "0.0.0.0", api_key: "k" }), { name: null, folderMayBeTold: false });
  assertEquals(await of({ base_model_names: { "lorapar-tiny": "org/tiny" } }), {
    name: "org/tiny",
    folderMayBeTold: true,
  });
  assertEquals((await of({ base_model_names: { other: "org/tiny" } })).name, null);
});

Deno.test("a teacher named after a member of Object.prototype is like any other", async () => {
  await using f = await fixture();
  for (const name of ["constructor", "toString", "__proto__"]) {
    const local = (await classify(f, { name })).task("out");
    assertStrictEquals(local.localTeachers.get(name)?.id, "lorapar-tiny");
    const remote = (await classify(f, { name, base_url: "http://127.0.0.1:1" })).task("out");
    assertStrictEquals(remote.localTeachers.get(name), undefined);
    assertStrictEquals(remote.apiKeys.get(name), undefined);
  }
});

Deno.test("classify takes a file or samples, partition a labelled file or one per system", async () => {
  await using f = await fixture();
  const file = await f.upload("{}\n");
  assertStrictEquals((await refusal(classify(f, {}, { file })))[0], "samples");
  assertStrictEquals((await refusal(classify(f, {}, { samples: undefined })))[0], "file");
  const samples = [{ question: "1+1?", answer: "2" }, { question: 7, answer: ["2"] }];
  assertStrictEquals((await refusal(classify(f, {}, { samples })))[0], "samples[1]");
  const partition = (body: object) =>
    planPartition(f, partitionSettings.parse({ model: "lorapar-tiny", ...body }));
  assertStrictEquals((await refusal(partition({})))[0], "system1_file");
  assertStrictEquals((await refusal(partition({ system1_file: file })))[0], "system2_file");
  assertStrictEquals((await refusal(partition({ file, system1_file: file })))[0], "file");
  assertEquals(await refusal(partition({ file, lora: { init: "default" } })), [
    "lora.init",
    "zero_b",
  ]);
  const task = (await partition({ system1_file: file, system2_file: file })).task("out");
  assertEquals([task.file, task.system1File?.id, task.system2File?.id], [null, file, file]);
});

Deno.test("training: what excludes each other is refused by name", async () => {
  await using f = await fixture();
  const file = await f.upload("{}\n");
  const train = (body: object) =>
    planTrain(f, trainSettings.parse({ model: "lorapar-tiny", file, ...body }));
  assertEquals(await refusal(train({ partition: { lora: { init: "default" } } })), [
    "partition.lora.init",
    "zero_b",
  ]);
  assertStrictEquals((await refusal(train({ lora: {} })))[0], "lora");
  assertEquals(await refusal(train({ partition: "part-1" })), [
    "partition",
    "partition_not_found",
  ]);
  assertEquals(await refusal(train({ file: "../etc/passwd" })), ["file", "file_not_found"]);
  assertEquals(await refusal(train({ validation_file: "file-x" })), [
    "validation_file",
    "file_not_found",
  ]);
  assertStrictEquals(
    (await refusal(train({ phases: [{ kind: "grpo", num_generations: 3 }] })))[0],
    "phases[0].per_device_train_batch_size",
  );
  // The second is a pattern of JavaScript's, but not of the engine that runs it.
  for (const pattern of ["(", "(?=a)"]) {
    const rewards = [{ type: "integer" }, { type: "regex", pattern }];
    assertEquals(await refusal(train({ phases: [{ kind: "sft" }, { kind: "grpo", rewards }] })), [
      "phases[1].rewards[1].pattern",
      "invalid_pattern",
    ]);
    assertEquals(await refusal(train({ evaluate: { file, grader: { type: "regex", pattern } } })), [
      "evaluate.grader.pattern",
      "invalid_pattern",
    ]);
  }
  assertEquals(await refusal(train({ model: "no" })), ["model", "model_not_found"]);

  const usual = await train({});
  const { partition } = usual.request;
  assert(typeof partition === "object" && partition && partition.theta === 0.9);
  assert(!("model" in partition));
  const baseline = await train({ partition: null, lora: { init: "default" } });
  assertStrictEquals(baseline.task("out").partition, null);
});

Deno.test("evaluation needs a rule that can be read", async () => {
  await using f = await fixture();
  const file = await f.upload("{}\n");
  const evaluate = (body: object) =>
    planEvaluate(f, evaluateSettings.parse({ model: "lorapar-tiny", file, ...body }));
  assertStrictEquals((await refusal(evaluate({})))[0], "grader");
  for (const pattern of ["[", "(a)\\1"]) {
    const regex = { type: "regex", pattern };
    assertEquals(await refusal(evaluate({ grader: regex })), ["grader.pattern", "invalid_pattern"]);
    assertEquals(await refusal(evaluate({ rewards: [regex] })), [
      "rewards[0].pattern",
      "invalid_pattern",
    ]);
  }
  assertStrictEquals(
    (await evaluate({ grader: { type: "math_answer" } })).task("o").kind,
    "evaluate",
  );
});
