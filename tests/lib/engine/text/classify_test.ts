// Teachers asked from a text worker: servers, which may take their time, and models of this server, which
// the caller answers for.

import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { fileURLToPath } from "node:url";
import type { ModelReference, TaskEvent } from "../../../../lib/engine/messages.ts";
import type { TeacherAsk, Texts } from "../../../../lib/engine/text/messages.ts";
import { TextPool } from "../../../../lib/engine/text/pool.ts";
import { textLimits } from "../../../../lib/engine/text/stage.ts";
import { Cancelled, GpuError } from "../../../../lib/errors.ts";
import { openModel } from "../../../../lib/model/open.ts";
import { classifySettings } from "../../../../lib/par/settings.ts";
import { assertRejects } from "../../../asserts.ts";
import { inFolder } from "../../model/tiny_model.ts";

const tiny: ModelReference = {
  id: "lorapar-tiny",
  baseId: "lorapar-tiny",
  path: fileURLToPath(new URL("../../../../models/tiny", import.meta.url)),
  adapterFolder: null,
};
const sampleMs = 400;

/** Reads `count` samples and hands the task to `test`. */
async function withSamples(
  count: number,
  test: (texts: Texts & { end(): void }, folder: string, events: TaskEvent[]) => Promise<void>,
): Promise<void> {
  const pool = new TextPool({ limits: { ...textLimits, sampleMs } });
  const events: TaskEvent[] = [];
  const texts = pool.forTask((event) => events.push(event));
  try {
    await inFolder(async (folder) => {
      const path = `${folder}/data.jsonl`;
      await Deno.writeTextFile(path, '{"question":"1+1?","answer":"2"}\n'.repeat(count));
      const file = { id: "file-1", path, filename: "data.jsonl" };
      await texts.call("read_samples", {
        set: "train",
        files: [{ file, system: null, param: "file" }],
      });
      await test(texts, folder, events);
    });
  } finally {
    texts.end();
    pool.close();
  }
}

function argumentsOf(outputFolder: string, teacher: Record<string, unknown>) {
  const { file: _, samples: __, ...settings } = classifySettings.parse({
    file: "file-1",
    target_model: "lorapar-tiny",
    teachers: [{ name: "teacher", model: "lorapar-tiny", ...teacher }],
  });
  const local = teacher.base_url === undefined;
  return {
    settings,
    outputFolder,
    access: {
      localTeachers: new Map(local ? [["teacher", tiny]] : []),
      apiKeys: new Map<string, string>(),
      allowedHosts: ["127.0.0.1"],
    },
  };
}

async function withServer(
  delayMs: number,
  test: (base_url: string) => Promise<void>,
): Promise<void> {
  const stop = new AbortController();
  const options = { hostname: "127.0.0.1", port: 0, signal: stop.signal, onListen() {} };
  const server = Deno.serve(options, async () => {
    await new Promise((resolve) => setTimeout(resolve, delayMs));
    return Response.json({ choices: [{ message: { content: "System2" } }] });
  });
  try {
    await test(`http://127.0.0.1:${server.addr.port}/v1`);
  } finally {
    stop.abort();
    await server.finished;
  }
}

Deno.test("a server that takes longer than a text may is waited for", () =>
  withServer(
    3 * sampleMs,
    (base_url) =>
      withSamples(3, async (texts, folder, events) => {
        const result = await texts.call("classify", argumentsOf(folder, { base_url }));
        assertEquals([result.counts.system2, result.agreement], [3, 1]);
        const lines = (await Deno.readTextFile(`${folder}/classified.jsonl`)).trim().split("\n");
        assertEquals(lines.map((line) => JSON.parse(line).system), Array(3).fill("system2"));
        const last = events.filter(({ type }) => type === "progress").at(-1);
        assert(last?.type === "progress");
        assertEquals([last.progress.done, last.progress.total], [3, 3]);
      }),
  ));

Deno.test("a cancel ends the wait for a server at once", () =>
  withServer(60_000, (base_url) =>
    withSamples(1, async (texts, folder) => {
      const asked = texts.call("classify", argumentsOf(folder, { base_url }));
      await new Promise((resolve) => setTimeout(resolve, 300));
      const begin = performance.now();
      texts.end();
      await assertRejects(asked, Cancelled);
      assert(performance.now() - begin < 500);
    })));

Deno.test("a model of this server answers in tokens, in batches, however long it takes", async () => {
  const { tokenizer, close } = await openModel(tiny.path);
  close();
  await withSamples(40, async (texts, folder) => {
    const asks: TeacherAsk[] = [];
    const result = await texts.call("classify", argumentsOf(folder, {}), {
      async onAsk(ask) {
        asks.push(ask);
        await new Promise((resolve) => setTimeout(resolve, 2 * sampleMs));
        return ask.prompts.map(() => Uint32Array.from(tokenizer.encode("System1")));
      },
    });
    assertStrictEquals(result.counts.system1, 40);
    assertEquals(asks.map(({ prompts }) => prompts.length), [32, 8]);
    const prompt = tokenizer.decode(asks[0].prompts[0]);
    assert(prompt.includes("1+1?") && prompt.includes("Act as lorapar-tiny"), prompt);
  });
});

Deno.test("what the engine fails with is what the call fails with", () =>
  withSamples(1, async (texts, folder) => {
    const failing = texts.call("classify", argumentsOf(folder, {}), {
      onAsk: () => Promise.reject(new GpuError("Cannot open a GPU", null, "gpu_error")),
    });
    await assertRejects(failing, (error) => error instanceof GpuError);
  }));
