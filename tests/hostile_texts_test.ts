// Texts and files that never end, break what reads them or are far too long, on the real engine: each is
// refused or fails within its limit, and while it is at work every other task is answered.

import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { fileURLToPath } from "node:url";
import { type Engine, startEngine } from "../lib/engine/engine.ts";
import type { ChatTask, EvaluateTask, ModelReference, TrainTask } from "../lib/engine/messages.ts";
import { textLimits } from "../lib/engine/text/stage.ts";
import { Cancelled, InvalidFile, InvalidRequest } from "../lib/errors.ts";
import { evaluateSettings, trainSettings } from "../lib/train/settings.ts";
import { assertRejects } from "./asserts.ts";
import { inFolder, tinyConfig, tinyTokenizerJson, writeHfFolder } from "./lib/model/tiny_model.ts";

const limitMs = 3000;
const limits = { ...textLimits, chatMs: limitMs, sampleMs: limitMs, fileMs: limitMs };
const damaged = fileURLToPath(new URL("./lib/data/damaged/", import.meta.url));

const modelAt = (id: string, path: string): ModelReference => ({
  id,
  baseId: id,
  path,
  adapterFolder: null,
});
const tiny = modelAt("lorapar-tiny", fileURLToPath(new URL("../models/tiny", import.meta.url)));

function chatTask(model: ModelReference, content: string): ChatTask {
  const sampling = { temperature: 0, topP: 1, topK: 0, minP: 0, seed: 0 };
  const messages = [{ role: "user", content }];
  return { kind: "chat", model, messages, maxTokens: 4, ...sampling, stop: [], n: 1 };
}

const fileAt = (path: string) => ({ id: "file-1", path, filename: path.split("/").at(-1)! });

function dryRun(path: string): TrainTask {
  const partition = null;
  return {
    kind: "train",
    request: trainSettings.parse({ model: tiny.id, file: "file-1", partition }),
    model: tiny,
    file: fileAt(path),
    validationFile: null,
    evaluateFile: null,
    partition,
    localTeachers: new Map(),
    apiKeys: new Map(),
    allowedHosts: [],
    adapterBase: { name: null, folderMayBeTold: false },
    dryRun: true,
    outputFolder: "",
  };
}

function evaluation(path: string, outputFolder: string): EvaluateTask {
  const grader = { type: "math_answer" };
  const request = evaluateSettings.parse({ model: tiny.id, file: "file-1", grader, max_tokens: 4 });
  return { kind: "evaluate", request, model: tiny, file: fileAt(path), outputFolder };
}

/** Runs a task that fails, and asks for others' all the while. Answers how long it took. */
async function besides(
  engine: Engine,
  failing: Promise<unknown>,
  wanted: (error: Error) => boolean,
): Promise<number> {
  const begin = performance.now();
  let hasEnded = false;
  const failed = assertRejects(failing, wanted).finally(() => hasEnded = true);
  failed.catch(() => {});
  do {
    const [{ choices }, { adapter }] = await Promise.all([
      engine.run(chatTask(tiny, "Hi")),
      engine.run({ kind: "doctor" }),
    ]);
    assert(choices[0].text.length > 0 && typeof adapter === "string");
  } while (!hasEnded);
  await failed;
  assertStrictEquals(engine.problem(), null);
  return performance.now() - begin;
}

/** The real engine in a temporary folder; `workerUrl` is a text worker with ways to break it. */
async function withEngine(test: (engine: Engine, folder: string) => Promise<void>): Promise<void> {
  const workerUrl = new URL("./lib/engine/text/breaking_worker.ts", import.meta.url);
  const engine = startEngine({ texts: { limits, workerUrl, taskHeapMebibytes: 512 } });
  try {
    await engine.run(chatTask(tiny, "Hi"));
    await inFolder((folder) => test(engine, folder));
  } finally {
    await engine.close();
  }
}

const isInvalidFile = (error: Error) => error instanceof InvalidFile;

Deno.test("data sets: damaged Parquet files, and one that never ends", () =>
  withEngine(async (engine, folder) => {
    for (const name of ["263", "360", "925", "943", "1210"]) {
      const path = `${damaged}${name}.parquet`;
      await besides(engine, engine.run(dryRun(path)), isInvalidFile);
      await besides(engine, engine.run(evaluation(path, folder)), isInvalidFile);
    }
    const path = `${folder}/loop.jsonl`;
    await Deno.writeTextFile(path, '{"question":"1+1?","answer":"2"}\n');
    const tookMs = await besides(
      engine,
      engine.run(evaluation(path, folder)),
      (error) => isInvalidFile(error) && /Cannot read loop.jsonl: it made no/.test(error.message),
    );
    assert(tookMs < limitMs + 10_000, `${tookMs} ms`);

    const stop = new AbortController();
    const looping = engine.run(evaluation(path, folder), undefined, stop.signal);
    await engine.run(chatTask(tiny, "Hi"));
    stop.abort();
    const begin = performance.now();
    await assertRejects(looping, Cancelled);
    assert(performance.now() - begin < 1000);
  }));

Deno.test("chats: templates and patterns that never end, a FIFO, a message of 30 MB", () =>
  withEngine(async (engine, folder) => {
    const template = modelAt("template", `${folder}/template`);
    await writeHfFolder(template.path, tinyConfig);
    const ranges =
      "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}";
    await Deno.writeTextFile(`${template.path}/chat_template.jinja`, ranges);
    const isRequest = (error: Error) =>
      error instanceof InvalidRequest && error.param === "messages";
    await besides(engine, engine.run(chatTask(template, "Hi")), isRequest);

    const pattern = modelAt("pattern", `${folder}/pattern`);
    await writeHfFolder(pattern.path, tinyConfig);
    const pre_tokenizer = {
      type: "Split",
      pattern: { Regex: "(a+)+$" },
      behavior: "Isolated",
      invert: false,
    };
    const json = { ...tinyTokenizerJson(), pre_tokenizer };
    await Deno.writeTextFile(`${pattern.path}/tokenizer.json`, JSON.stringify(json));
    const catastrophe = chatTask(pattern, `${"a".repeat(60)}!`);
    await besides(
      engine,
      engine.run(catastrophe),
      (error) => isRequest(error) && /Cannot tokenize .* no progress for 3 s/.test(error.message),
    );
    // A data set's sample that does it to a training is named.
    const path = `${folder}/third.jsonl`;
    const records = ["b", "bb", `${"a".repeat(60)}!`].map((question) => ({
      question,
      answer: "b",
    }));
    await Deno.writeTextFile(path, records.map((one) => JSON.stringify(one) + "\n").join(""));
    const phases = [{ kind: "sft", data: "all", activate: "all" }];
    const request = trainSettings.parse({ model: "pattern", file: "f", partition: null, phases });
    await besides(
      engine,
      engine.run({ ...dryRun(path), model: pattern, request }),
      (error) =>
        error instanceof InvalidRequest && error.param === "file" &&
        /render the samples of phase 1: it made no .* at sample 3/.test(error.message),
    );

    const stop = new AbortController();
    const begin = performance.now();
    const cancelled = engine.run(catastrophe, undefined, stop.signal);
    setTimeout(() => stop.abort(), 500);
    await assertRejects(cancelled, Cancelled);
    assert(performance.now() - begin < limitMs);

    const fifo = modelAt("x", `${folder}/x.gguf`);
    await new Deno.Command("mkfifo", { args: [fifo.path] }).output();
    await besides(engine, engine.run(chatTask(fifo, "Hi")), isInvalidFile);
    await besides(engine, engine.run({ kind: "describe_model", model: fifo }), isInvalidFile);

    for (const megabytes of [3, 30]) {
      const long = chatTask(tiny, "word ".repeat(megabytes * 2e5));
      await besides(engine, engine.run(long), isRequest);
    }
  }));

Deno.test("a training goes on while others' files are read and their readers break", () =>
  withEngine(async (engine, folder) => {
    const path = `${folder}/train.jsonl`;
    await Deno.writeTextFile(path, '{"question":"1+1?","answer":"2"}\n'.repeat(4));
    const phase = { kind: "grpo", data: "all", activate: "all", num_generations: 2 };
    const steps = { max_steps: 4, max_completion_length: 8, warmup_ratio: 0 };
    const task = {
      ...dryRun(path),
      dryRun: false,
      outputFolder: folder,
      request: trainSettings.parse({
        model: tiny.id,
        file: "file-1",
        partition: null,
        lora: { r: 4 },
        phases: [{ ...phase, ...steps, per_device_train_batch_size: 2 }],
      }),
    };
    const metrics: number[] = [];
    const samples: Record<string, unknown>[] = [];
    const training = engine.run(task, (event) => {
      if (event.type === "metrics") metrics.push(event.step);
      if (event.type === "sample") samples.push(event.sample);
    });
    for (const name of ["reject.jsonl", "memory.jsonl", "late.jsonl"]) {
      const broken = `${folder}/${name}`;
      await Deno.writeTextFile(broken, '{"question":"1+1?","answer":"2"}\n');
      await assertRejects(engine.run(dryRun(broken)));
    }
    const result = await training;
    assertEquals(metrics, [1, 2, 3, 4]);
    assertStrictEquals(samples.length, 8);
    assertEquals(samples[0].prompt, [{ role: "user", content: "1+1?" }]);
    assertEquals([samples[0].answer, typeof samples[0].completion], ["2", "string"]);
    assert("phases" in result);
  }));
