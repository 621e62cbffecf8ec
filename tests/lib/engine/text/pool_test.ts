// Text workers against what hangs, breaks or takes all memory: the call at work fails with what it was at,
// within its limit, and everybody else's goes on.

import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { fileURLToPath } from "node:url";
import type { TaskEvent } from "../../../../lib/engine/messages.ts";
import type { TextModel, Texts } from "../../../../lib/engine/text/messages.ts";
import { TextPool, type TextPoolOptions } from "../../../../lib/engine/text/pool.ts";
import { textLimits } from "../../../../lib/engine/text/stage.ts";
import { Cancelled, InvalidFile, InvalidRequest } from "../../../../lib/errors.ts";
import { trainSettings } from "../../../../lib/train/settings.ts";
import { assertRejects } from "../../../asserts.ts";
import { inFolder, tinyConfig, tinyTokenizerJson, writeHfFolder } from "../../model/tiny_model.ts";

const tiny: TextModel = {
  id: "lorapar-tiny",
  path: fileURLToPath(new URL("../../../../models/tiny", import.meta.url)),
};
const workerUrl = new URL("./breaking_worker.ts", import.meta.url);
/** Long enough for what is honest on a busy machine, short enough for a test. */
const limits = { ...textLimits, chatMs: 1500, sampleMs: 1500, fileMs: 1500, fileMsPerMebibyte: 0 };

async function withPool(
  options: Partial<TextPoolOptions>,
  test: (pool: TextPool, folder: string) => Promise<void>,
): Promise<void> {
  const pool = new TextPool({ limits, workerUrl, ...options });
  try {
    await inFolder((folder) => test(pool, folder));
  } finally {
    pool.close();
  }
}

const say = (content: string) => [{ role: "user", content }];
const encode = (texts: Texts, model: TextModel, content: string) =>
  texts.call("encode_chat", { model, messages: say(content) });

/** A model whose texts take for ever, or too much. */
async function hostileModel(
  folder: string,
  { template, regex }: { template?: string; regex?: string },
): Promise<TextModel> {
  await writeHfFolder(folder, tinyConfig);
  if (template) await Deno.writeTextFile(`${folder}/chat_template.jinja`, template);
  if (regex) {
    const pre_tokenizer = {
      type: "Split",
      pattern: { Regex: regex },
      behavior: "Isolated",
      invert: false,
    };
    const json = { ...tinyTokenizerJson(), pre_tokenizer };
    await Deno.writeTextFile(`${folder}/tokenizer.json`, JSON.stringify(json));
  }
  return { id: "hostile", path: folder };
}

const rangesForEver = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}" +
  "{% endfor %}";
const catastrophe = `${"a".repeat(60)}!`;

Deno.test("a template and a tokenizer that never end fail their own chat only", () =>
  withPool({}, async (pool, folder) => {
    const template = await hostileModel(`${folder}/template`, { template: rangesForEver });
    const regex = await hostileModel(`${folder}/regex`, { regex: "(a+)+$" });
    const failing = Promise.all([
      // The renderer counts its own steps.
      assertRejects(encode(pool.forTask(), template, "Hi"), InvalidRequest),
      assertRejects(
        encode(pool.forTask(), regex, catastrophe),
        (error) =>
          error instanceof InvalidRequest && error.param === "messages" &&
          /Cannot tokenize the messages for hostile: it made no progress for 1.5 s/.test(
            error.message,
          ),
      ),
    ]);
    failing.catch(() => {});
    // Both chat workers are taken: this one waits until a hostile one was ended, and is then answered.
    const { tokens } = await encode(pool.forTask(), tiny, "Hi");
    assert(tokens.length > 2);
    await failing;
    // A short text passes the same pattern: the worker that was ended left nothing behind.
    assert((await encode(pool.forTask(), regex, "b!")).tokens.length > 0);
  }));

Deno.test("a message of 30 MB is refused after a part of it", () =>
  withPool({}, async (pool) => {
    await encode(pool.forTask(), tiny, "Hi");
    for (const word of ["word ", "a", " ", "\u{1f600}"]) {
      for (const megabytes of [3, 30]) {
        const content = word.repeat(megabytes * 1e6 / new TextEncoder().encode(word).length);
        const begin = performance.now();
        // The renderer itself goes through no more than 16 million characters.
        await assertRejects(
          encode(pool.forTask(), tiny, content),
          ({ code, param }) =>
            param === "messages" && (megabytes === 30 || code === "context_length_exceeded"),
        );
        const seconds = (performance.now() - begin) / 1000;
        assert(seconds < 3, `${megabytes} MB of ${JSON.stringify(word)} took ${seconds} s`);
      }
    }
  }));

Deno.test("a FIFO that poses as a model is refused at once", () =>
  withPool({}, async (pool, folder) => {
    const path = `${folder}/x.gguf`;
    await new Deno.Command("mkfifo", { args: [path] }).output();
    for (const kind of ["encode_chat", "describe_model"] as const) {
      const model = { id: "x", path };
      const task = pool.forTask();
      await assertRejects(
        task.call(kind, { model, messages: say("Hi") }),
        (error) => error instanceof InvalidFile && error.message.includes("x.gguf"),
      );
      task.end();
    }
  }));

async function fileOf(folder: string, filename: string) {
  const path = `${folder}/${filename}`;
  await Deno.writeTextFile(path, '{"question":"1+1?","answer":"2"}\n');
  return { id: "file-1", path, filename };
}

Deno.test("a data set that loops or breaks its worker fails its own task only", () =>
  withPool({}, async (pool, folder) => {
    const inspect = async (filename: string) => {
      const task = pool.forTask();
      try {
        return await task.call("inspect_file", { file: await fileOf(folder, filename) });
      } finally {
        task.end();
      }
    };
    const loops = assertRejects(
      inspect("loop.jsonl"),
      (error) =>
        error instanceof InvalidFile && error.param === "file" &&
        /Cannot read loop.jsonl: it made no progress for 1.5 s/.test(error.message),
    );
    loops.catch(() => {});
    const good = { samples: 1, labelled: 0 };
    assertEquals(await inspect("good.jsonl"), good);
    await assertRejects(inspect("reject.jsonl"), /Cannot read reject.jsonl: nobody awaits this/);
    assertEquals(await inspect("good.jsonl"), good);
    await loops;
    // What a damaged file leaves under way meets no later task.
    await assertRejects(inspect("late.jsonl"), /the page is damaged/);
    for (let i = 0; i < 10; i++) assertEquals(await inspect("good.jsonl"), good);
    // And what a file that was read leaves is its own task's.
    const task = pool.forTask();
    const file = await fileOf(folder, "stray.jsonl");
    await task.call("read_samples", {
      set: "train",
      files: [{ file, system: null, param: "file" }],
    });
    await new Promise((resolve) => setTimeout(resolve, 300));
    await assertRejects(
      task.call("render_phases", { model: tiny, phases: [] }),
      /Cannot read stray.jsonl: nobody awaits this/,
    );
    task.end();
  }));

Deno.test("a data set that takes all memory ends its task, not the process", () =>
  withPool({ taskHeapMebibytes: 200 }, async (pool, folder) => {
    const task = pool.forTask();
    await assertRejects(
      task.call("inspect_file", { file: await fileOf(folder, "memory.jsonl") }),
      /Cannot read memory.jsonl: .* more than 200 MiB of memory/,
    );
    task.end();
    assert((await encode(pool.forTask(), tiny, "Hi")).tokens.length > 2);
  }));

Deno.test("a cancel is heard at once, while a call is at work and while it waits", () =>
  withPool({ taskWorkers: 1, limits: textLimits }, async (pool, folder) => {
    const [working, waiting, next] = [pool.forTask(), pool.forTask(), pool.forTask()];
    const loop = working.call("inspect_file", { file: await fileOf(folder, "loop.jsonl") });
    const file = await fileOf(folder, "good.jsonl");
    const never = waiting.call("inspect_file", { file });
    const found = next.call("inspect_file", { file });
    found.catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, 300));
    const begin = performance.now();
    waiting.end();
    await assertRejects(never, Cancelled);
    working.end();
    await assertRejects(loop, Cancelled);
    const ms = performance.now() - begin;
    assert(ms < 1000, `${ms} ms`);
    // The next in line has its turn then.
    assertStrictEquals((await found).samples, 1);
    await assertRejects(working.call("inspect_file", { file }), Cancelled);
  }));

Deno.test("a chat that is cancelled is answered at once, its worker goes on to the next", () =>
  withPool({ chatWorkers: 1 }, async (pool, folder) => {
    const hostile = await hostileModel(folder, { regex: "(a+)+$" });
    const chat = pool.forTask();
    const hanging = encode(chat, hostile, catastrophe);
    const next = encode(pool.forTask(), tiny, "Hi");
    await new Promise((resolve) => setTimeout(resolve, 300));
    const begin = performance.now();
    chat.end();
    await assertRejects(hanging, Cancelled);
    assert(performance.now() - begin < 1000);
    assert((await next).tokens.length > 2);
  }));

Deno.test("a task's worker keeps what it read, and no other task sees it", () =>
  withPool({}, async (pool, folder) => {
    const file = await fileOf(folder, "good.jsonl");
    const [one, two] = [pool.forTask(), pool.forTask()];
    const args = { model: tiny, phases: [] };
    await one.call("read_samples", {
      set: "train",
      files: [{ file, system: null, param: "file" }],
    });
    await one.call("render_phases", args);
    await assertRejects(two.call("render_phases", args), /before it was read/);
    one.end();
    two.end();
    const three = pool.forTask();
    await assertRejects(three.call("render_phases", args), /before it was read/);
    three.end();
  }));

Deno.test("idle workers are ended, and the next call has a new one", () =>
  withPool({ chatIdleMs: 20, taskIdleMs: 20 }, async (pool) => {
    const threads = () => {
      const status = Deno.readTextFileSync("/proc/self/status");
      return Number(/Threads:\s*(\d+)/.exec(status)![1]);
    };
    const before = threads();
    for (let i = 0; i < 3; i++) {
      assert((await encode(pool.forTask(), tiny, "Hi")).tokens.length > 2);
      for (let wait = 0; wait < 100 && threads() > before; wait++) {
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      if (i > 0) assert(threads() <= before + 1, `${threads()} threads, ${before} before`);
    }
  }));

Deno.test("a pool that closes fails what it is at", async () => {
  const pool = new TextPool({ limits: textLimits, workerUrl });
  await inFolder(async (folder) => {
    const file = await fileOf(folder, "loop.jsonl");
    const loop = pool.forTask().call("inspect_file", { file });
    await new Promise((resolve) => setTimeout(resolve, 200));
    pool.close();
    await assertRejects(loop, ({ code }) => code === "unavailable");
    await assertRejects(
      pool.forTask().call("inspect_file", { file }),
      ({ code }) => code === "unavailable",
    );
  });
});

Deno.test("a model without a chat template is told of: once for a job, and where it is described", () =>
  withPool({}, async (pool, folder) => {
    await writeHfFolder(folder);
    const [without, own] = [{ id: "base", path: folder }, tiny];
    await Deno.writeTextFile(`${folder}/tokenizer_config.json`, "{}");
    const events: TaskEvent[] = [];
    const texts = pool.forTask((event) => events.push(event));
    const file = { id: "file-1", path: `${folder}/one.jsonl`, filename: "one.jsonl" };
    await Deno.writeTextFile(file.path, '{"question": "a?", "answer": "b", "system": "system1"}\n');
    const set = { set: "train" as const, files: [{ file, system: null, param: "file" }] };
    await texts.call("read_samples", set);
    const { phases } = trainSettings.parse({ model: "base", file: "file-1" });
    for (let i = 0; i < 2; i++) {
      await texts.call("render_phases", { model: without, phases: phases.slice(0, 1) });
    }
    texts.end();
    const logs = events.filter(({ type }) => type === "log");
    assertEquals(logs.length, 1, JSON.stringify(events));
    assert(JSON.stringify(logs).includes("no chat template"));

    const said = async (model: TextModel) => {
      const reference = { ...model, baseId: model.id, adapterFolder: null };
      const details = await pool.forTask().call("describe_model", { model: reference });
      return details.chat_template;
    };
    assertEquals([await said(without), await said(own)], ["plain fallback", "the model's own"]);
    const heard: TaskEvent[] = [];
    await encode(pool.forTask((event) => heard.push(event)), own, "Hi");
    assertEquals(heard.filter(({ type }) => type === "log"), []);
  }));
