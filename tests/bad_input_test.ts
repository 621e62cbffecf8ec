// What the server says to bad input, on the real engine: a clear refusal or a failed job that names
// what, where and what to do; and that afterwards it works as before with everything it had stored.

import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { type ModelConfig, projectionPath } from "../lib/model/config.ts";
import { modelTensors } from "../lib/model/model_source.ts";

import {
  ggufBytes,
  ggufFields,
  ggufTensors,
  tinyConfig,
  tinyTensors,
  tinyTokenizerJson,
  tinyValues,
  writeHfFolder,
} from "./lib/model/tiny_model.ts";
import {
  type Answer,
  type Json,
  labelledSamples,
  quickGrpo,
  quickSft,
  type RealServer,
  realServer,
} from "./real_server.ts";

const model = "lorapar-tiny";
const samples = labelledSamples(12);
const all = { data: "all", activate: "all" };
const sft = { ...quickSft, ...all, max_steps: 1 };
const grpo = { ...quickGrpo, ...all, max_steps: 1 };
const lora = { r: 4 };
const tensorName = `${projectionPath(1, "k_proj")}.weight`;

/** That an answer is this refusal, or a job that failed with it, and that the message has `words`. */
function assertRefused(
  [status, body]: Answer,
  wanted: { status?: number; code?: string; param?: string },
  words: string[],
): void {
  if (wanted.status === undefined) {
    assertEquals([status, body.status], [200, "failed"], JSON.stringify(body));
  } else assertStrictEquals(status, wanted.status, JSON.stringify(body));
  const { message, code, param } = body.error;
  for (const word of words) assert(message.includes(word), `"${word}" in: ${message}`);
  if (wanted.code !== undefined) assertStrictEquals(code, wanted.code, message);
  if (wanted.param !== undefined) assertStrictEquals(param, wanted.param, message);
}

const hello = (name: string) => ({
  model: name,
  messages: [{ role: "user", content: "Hi" }],
  max_tokens: 2,
});

Deno.test("bad input on the real engine", async (t) => {
  await using server = await realServer();
  const file = await server.upload(samples);
  const ask = (path: string, body: unknown) => server.post(path, body, { prefer: "wait=600" });
  const train = (more: Record<string, unknown>) =>
    ask("/v1/train", { model, file, partition: null, lora, phases: [sft], ...more });
  const keep = await server.run("/v1/train", {
    model,
    file,
    partition: { lora, samples_per_system: 2 },
    phases: [sft],
    suffix: "kept",
  });
  const [, keptPartition] = await server.get(`/v1/partitions/${keep.partition}`);

  /** A step, after which the server must answer as before. */
  const step = async (name: string, run: () => Promise<void>) => {
    await t.step(name, async () => {
      await run();
      const [status, answer] = await server.post("/v1/chat/completions", hello(model));
      assertStrictEquals(status, 200, JSON.stringify(answer));
    });
  };

  await step("one-sided data", async () => {
    const one = await server.upload(samples.filter(({ system }) => system === "system1"));
    const wanted = { code: "one_sided_data" };
    const partition = await ask("/v1/partition", { model, file: one, lora });
    assertRefused(partition, wanted, ["system2", "6 samples"]);
    const phases = [quickSft, quickGrpo];
    assertRefused(await train({ file: one, phases }), { ...wanted, param: "phases[1].data" }, [
      "phase 2 (grpo)",
      "none of 6 samples",
    ]);
    const dry = await ask("/v1/train?dry_run=true", { model, file: one, phases });
    assertRefused(dry, { ...wanted, status: 400, param: "phases[1].data" }, ["phase 2 (grpo)"]);
  });

  await step("empty and damaged files", async () => {
    const form = new FormData();
    form.append("purpose", "fine-tune");
    form.append("file", new Blob([""]), "empty.jsonl");
    const response = await server.request("/v1/files", { method: "POST", body: form });
    assertRefused([response.status, await response.json()], { status: 400, param: "file" }, [
      '"empty.jsonl"',
      "empty",
    ]);
    const refused = async (text: string, words: string[], filename?: string) =>
      assertRefused(
        await train({ file: await server.upload(text, filename) }),
        { status: 422, code: "invalid_file" },
        words,
      );
    await refused("\n\n", ["no record"]);
    await refused("[]", ["no record"], "empty.json");
    await refused('{"question":"a","answer":"b"}\n{oops\n', ["line 2", "{oops"]);
    await refused('{"question":"a","answer":"b","system":"third"}\n', ["line 1", '"third"']);
    const noAnswer = await server.upload('{"question":"a?"}\n');
    assertRefused(await train({ file: noAnswer }), {}, ["sample 1", '"a?"', "no answer"]);
  });

  await step("samples that are too long", async () => {
    const [, { details }] = await server.get(`/v1/models/${model}`);
    const positions: number = details.context_length;
    const long = { question: `Count: ${"zq ".repeat(positions)}`, answer: "x", system: "system1" };
    const longFile = await server.upload([...samples, long]);
    const ofFile = ["sample 13", '"Count: zq zq', "1 of 13"];
    const phases = [{ ...sft, max_length: 100 }];
    const param = "phases[0].max_length";
    assertRefused(await train({ file: longFile, phases }), { param }, [
      ...ofFile,
      "max_length is 100",
    ]);
    // Past the model's own positions no setting helps.
    const past = [{ ...sft, max_length: 9 * positions }];
    const code = "context_length_exceeded";
    assertRefused(await train({ file: longFile, phases: past }), { code }, [
      ...ofFile,
      `${positions} positions`,
    ]);
    const partition = { model, file: longFile, lora, max_length: 9 * positions };
    assertRefused(await ask("/v1/partition", partition), { code }, [
      '"Count: zq',
      `${positions} positions`,
    ]);
    // What a later phase cannot use is refused before the first one runs.
    const later = [sft, { ...grpo, max_completion_length: positions }];
    const laterParam = "phases[1].max_completion_length";
    assertRefused(await train({ phases: later }), { code, param: laterParam }, [
      "generate",
      `${positions}`,
    ]);
    const short = [sft, { ...grpo, max_prompt_length: 5 }];
    const shortParam = "phases[1].max_prompt_length";
    assertRefused(await train({ phases: short }), { param: shortParam }, [
      "max_prompt_length is 5",
    ]);
    const grader = { type: "math_answer" };
    const evaluate = { model, file, grader, max_tokens: positions };
    assertRefused(await ask("/v1/evaluate", evaluate), { code, param: "max_tokens" }, [
      "generate",
      `${positions}`,
    ]);
    assertRefused(await train({ evaluate: { file, grader, max_tokens: positions } }), { code }, [
      `${positions}`,
    ]);
    const prompts = await ask("/v1/evaluate", { model, file: longFile, grader, max_tokens: 8 });
    assertRefused(prompts, { code }, [...ofFile, `${positions - 8} positions`]);
    const validation = { validation_file: longFile, phases: [quickSft] };
    assertRefused(await train(validation), { param: "validation_file" }, [
      "validation file",
      "max_length",
    ]);
    const [, jobs] = await server.get("/v1/jobs?limit=100");
    const steps = jobs.data.filter(({ status }: Json) => status === "failed")
      .flatMap(({ id }: Json) => server.store.events(id, 0, 100, "metrics"));
    assertEquals(steps, [], "none of the refused jobs has trained a step");

    const messages = [{ role: "user", content: "zq ".repeat(positions) }];
    assertRefused(await server.post("/v1/chat/completions", { model, messages }), {
      status: 400,
      code,
      param: "messages",
    }, [`${positions}`]);
  });

  await step("settings that cannot be", async () => {
    const partition = (more: Json) => ask("/v1/partition", { model, file, lora, ...more });
    for (const theta of [0, 1.5, -1]) {
      assertRefused(await partition({ theta }), { status: 400, param: "theta" }, [`${theta}`]);
    }
    const rethreshold = `/v1/partitions/${keep.partition}/rethreshold`;
    const bad = { theta: 2, alpha: 1, beta: 1 };
    assertRefused(await server.post(rethreshold, bad), { status: 400, param: "theta" }, ["2"]);
    const beta = [{ ...sft, adam_beta1: 1 }];
    const betaParam = { status: 400, param: "phases[0].adam_beta1" };
    assertRefused(await train({ phases: beta }), betaParam, ["1"]);
    assertRefused(await partition({ thetta: 1 }), { status: 400, param: "thetta" }, ["unknown"]);
    const odd = { status: 400, param: "lora.r" };
    assertRefused(await partition({ lora: { r: 6 } }), odd, ["6", "multiple of 4"]);
    const zero = { status: 400, code: "zero_b", param: "lora.init" };
    assertRefused(await partition({ lora: { r: 4, init: "default" } }), zero, ["B = 0"]);
    const unknown = { status: 404, code: "model_not_found", param: "model" };
    assertRefused(await train({ model: "nobody" }), unknown, ['"nobody"', model]);
    assertRefused(await server.post("/v1/chat/completions", hello("nobody")), unknown, ["nobody"]);
  });

  await step("a partition that leaves a phase nothing", async () => {
    // With theta = 1 every element that matters at all is shared; beta = 0 gives phase 2 none of those.
    const partition = { lora, samples_per_system: 2, theta: 1, beta: 0 };
    const body = { model, file, partition, phases: [quickSft, quickGrpo] };
    const answer = await ask("/v1/train", body);
    assertRefused(answer, { param: "phases[1].activate" }, ["phase 2 (grpo)", "no element"]);
    assertEquals(server.store.events(answer[1].id, 0, 100, "metrics"), []);
  });

  await step("numbers that overflow", async () => {
    const rate = { learning_rate: 10, weight_decay: 10, lr_scheduler_type: "constant" };
    const steep = await train({ phases: [{ ...sft, ...rate, max_steps: 100 }] });
    assertRefused(steep, { code: "not_finite" }, ["SFT", "NaN", "learning_rate"]);
    // As early as the first pass: weights that are finite and products that are not.
    const overflowing = tinyTensors(tinyConfig);
    const name = `${projectionPath(0, "down_proj")}.weight`;
    const { shape, bytes } = overflowing.get(name)!;
    const largest = (bytes as Float32Array<ArrayBuffer>).map((x) => x * 3e38);
    overflowing.set(name, { dtype: "F32", shape, bytes: largest });
    await writeHfFolder(`${server.folder}/models/overflowing`, tinyConfig, overflowing);
    const file = await server.upload([
      { question: "1 + 1?", answer: "2", system: "system1" },
      { question: "2 + 2?", answer: "4", system: "system2" },
    ]);
    const huge = { model: "overflowing", file };
    const code = "not_finite";
    assertRefused(await train(huge), { code }, ["SFT", "loss is NaN", "step 1"]);
    assertRefused(await train({ ...huge, phases: [grpo] }), { code }, ["NaN"]);
    const partition = { ...huge, lora, samples_per_system: 2 };
    assertRefused(await ask("/v1/partition", partition), { code }, ["NaN or Inf"]);
  });

  await step("a teacher that is down", async () => {
    const closed = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const { port } = closed.addr;
    closed.close();
    const down = { name: "down", model: "any", base_url: `http://127.0.0.1:${port}/v1` };
    const teachers = [{ name: "a", model: "lorapar-teacher-a" }, down];
    assertRefused(
      await ask("/v1/classify", { file, target_model: model, teachers }),
      { code: "teacher_unavailable", param: "teachers[1].base_url" },
      ['"down"', `127.0.0.1:${port}`, "3 tries"],
    );
  });

  await step("models that are damaged", () => damagedModels(server, file));
  await step("models and adapters that are too large", () => tooLarge(server, file));

  await t.step("nothing stored is lost, and a good job succeeds", async () => {
    assertEquals((await server.get(`/v1/partitions/${keep.partition}`))[1], keptPartition);
    const [, adapters] = await server.get("/v1/adapters");
    assertEquals(adapters.data.map(({ id }: Json) => id), [keep.adapter]);
    const [status] = await server.post("/v1/chat/completions", hello(keep.model));
    assertStrictEquals(status, 200);
    const again = await server.run("/v1/train", {
      model: keep.model,
      file,
      partition: keep.partition,
      phases: [quickSft, quickGrpo],
    });
    assertStrictEquals(again.inactive_elements_changed, 0);
  });
});

/** Hugging Face folders and GGUF files of a few kilobytes, each damaged in one way. */
async function damagedModels(server: RealServer, file: string): Promise<void> {
  const models = `${server.folder}/models`;
  const change = async (path: string, edit: (bytes: Uint8Array<ArrayBuffer>) => Uint8Array) =>
    await Deno.writeFile(path, edit(await Deno.readFile(path)));
  const lie = (at: number) => (bytes: Uint8Array<ArrayBuffer>) => {
    new DataView(bytes.buffer).setBigUint64(at, 1n << 50n, true);
    return bytes;
  };
  /** The model is refused for training, for chat and, where `opened` is false, in the list. */
  // What shows in the heads of the files is refused before there is a job; what shows when they are opened
  // or when their values are read fails the job.
  const refused = async (
    name: string,
    words: string[],
    shows: "listed" | "opened" | "loaded" = "listed",
  ) => {
    const code = shows === "listed" ? "model_unusable" : "invalid_file";
    const body = { model: name, file, partition: null, lora, phases: [sft] };
    const job = await server.post("/v1/train", body, { prefer: "wait=600" });
    assertRefused(job, { status: shows === "listed" ? 422 : undefined, code }, words);
    const chat = await server.post("/v1/chat/completions", hello(name));
    assertRefused(chat, { status: 422, code }, words);
    const [status, { usable }] = await server.get(`/v1/models/${name}`);
    const wanted = { listed: [200, false], opened: [422, undefined], loaded: [200, true] };
    assertEquals([status, usable], wanted[shows], name);
  };
  const folder = async (name: string, tensors = tinyTensors(tinyConfig)) => {
    await writeHfFolder(`${models}/${name}`, tinyConfig, tensors);
    return `${models}/${name}/model.safetensors`;
  };
  const without = tinyTensors(tinyConfig);
  without.delete(tensorName);
  await folder("missing_tensor", without);
  await refused("missing_tensor", ["missing_tensor", tensorName, "missing"]);

  await change(await folder("truncated"), (bytes) => bytes.subarray(0, -100));
  await refused("truncated", ["model.safetensors", "model.layers.", "truncated, copy"]);

  await change(await folder("lying"), lie(0));
  await refused("lying", ["model.safetensors", `${2 ** 50} bytes`]);

  const values = tinyValues(tensorName, 32);
  values[5] = NaN;
  const damaged = tinyTensors(tinyConfig)
    .set(tensorName, { dtype: "F32", shape: [4, 8], bytes: values });
  await folder("nan", damaged);
  const memory = async () => (await server.engine.run({ kind: "doctor" })).memory as Json;
  const before = (await memory())["in use"];
  await refused("nan", [tensorName, "NaN or Inf at element 5"], "loaded");
  assertStrictEquals((await memory())["in use"], before, "what was loaded of it is given back");

  await folder("foreign_tokenizer");
  const tokenizer = tinyTokenizerJson() as Json;
  tokenizer.model.vocab.zz = 500;
  await Deno.writeTextFile(
    `${models}/foreign_tokenizer/tokenizer.json`,
    JSON.stringify(tokenizer),
  );
  await refused("foreign_tokenizer", ['"zz"', "500", "263", "another model"], "opened");

  const gguf = (name: string, bytes: Uint8Array) => Deno.writeFile(`${models}/${name}.gguf`, bytes);
  const whole = ggufBytes(ggufFields(), ggufTensors());
  await gguf("gguf_truncated", whole.subarray(0, -300));
  await refused("gguf_truncated", ["gguf_truncated.gguf", "blk.1.ffn_down.weight", "truncated"]);
  await gguf("gguf_lying", lie(8)(whole.slice()));
  await refused("gguf_lying", ["gguf_lying.gguf", `${2 ** 50} tensors`]);
  const { "blk.1.attn_k.weight": _, ...rest } = ggufTensors();
  await gguf("gguf_missing", ggufBytes(ggufFields(), rest));
  await refused("gguf_missing", ["gguf_missing.gguf", tensorName, "missing"]);

  // The same model undamaged works.
  await gguf("gguf_whole", whole);
  assertStrictEquals((await server.post("/v1/chat/completions", hello("gguf_whole")))[0], 200);
}

/** A safetensors file of zeros that takes no room on the disk. */
async function writeSparseModel(folder: string, config: ModelConfig): Promise<void> {
  await writeHfFolder(folder, config, null);
  const header: Record<string, unknown> = {};
  let end = 0;
  for (const [name, shape] of modelTensors(config)) {
    const begin = end;
    end += shape.reduce((product, size) => product * size, 2);
    header[name] = { dtype: "BF16", shape, data_offsets: [begin, end] };
  }
  const json = new TextEncoder().encode(JSON.stringify(header));
  const start = new Uint8Array(8 + json.length);
  new DataView(start.buffer).setBigUint64(0, BigInt(json.length), true);
  start.set(json, 8);
  await Deno.writeFile(`${folder}/model.safetensors`, start);
  await Deno.truncate(`${folder}/model.safetensors`, start.length + end);
}

async function tooLarge(server: RealServer, file: string): Promise<void> {
  const models = `${server.folder}/models`;
  const code = "out_of_memory";
  const body = { file, partition: null, lora, phases: [{ ...sft, max_length: 100 }] };
  const terabyte = { ...tinyConfig, hiddenSize: 8192, intermediateSize: 2 ** 20, layers: 24 };
  await writeSparseModel(`${models}/terabyte`, {
    ...terabyte,
    heads: 64,
    kvHeads: 8,
    headSize: 128,
  });
  const large = { ...body, model: "terabyte" };
  const short = await server.upload([{ question: "a?", answer: "b" }]);
  const [status, plan] = await server.post("/v1/train?dry_run=true", { ...large, file: short });
  assertStrictEquals(status, 200, JSON.stringify(plan));
  assertStrictEquals(plan.fits, false);
  assert(plan.memory.weights > 2 ** 40);
  const job = await server.post("/v1/train", large, { prefer: "wait=600" });
  assertRefused(job, { code, param: "model" }, ["terabyte", "TiB"]);

  // Small weights with an adapter of 144 MiB, more than lavapipe binds in one piece.
  const wide = { ...tinyConfig, intermediateSize: 2 ** 14, layers: 3, maxPositions: 64 };
  await writeHfFolder(`${models}/wide`, wide);
  const wideBody = { ...body, model: "wide", file: short, lora: { r: 256, init: "default" } };
  const [, widePlan] = await server.post("/v1/train?dry_run=true", wideBody);
  const isSmallGpu = !widePlan.fits;
  const wideJob = await server.post("/v1/train", wideBody, { prefer: "wait=600" });
  if (isSmallGpu) assertRefused(wideJob, { code, param: "lora.r" }, ["37797888 elements"]);
  else assertStrictEquals(wideJob[1].status, "succeeded");
}
