// What needs no GPU is answered on a machine that has none.

import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { fileURLToPath } from "node:url";
import type { TaskContext } from "../../../lib/engine/context.ts";
import type { ModelReference } from "../../../lib/engine/messages.ts";
import { inspectFile } from "../../../lib/engine/tasks/inspect_file.ts";
import { runTask } from "../../../lib/engine/tasks.ts";
import { TextPool } from "../../../lib/engine/text/pool.ts";
import { createTurns } from "../../../lib/engine/turns.ts";
import { GpuError } from "../../../lib/errors.ts";
import { assertRejects } from "../../asserts.ts";

const tiny: ModelReference = {
  id: "lorapar-tiny",
  baseId: "lorapar-tiny",
  path: fileURLToPath(new URL("../../../models/tiny", import.meta.url)),
  adapterFolder: null,
};
const chat = {
  kind: "chat" as const,
  model: tiny,
  maxTokens: 1,
  temperature: 0,
  topP: 1,
  topK: 0,
  minP: 0,
  seed: 0,
  stop: [],
  n: 1,
};

/** A task's context on a machine without a GPU. */
async function withoutGpu(test: (context: TaskContext) => Promise<void>): Promise<void> {
  const pool = new TextPool();
  const texts = pool.forTask();
  try {
    await test({
      turns: createTurns(),
      texts,
      device: () => Promise.reject(new GpuError("Cannot open a GPU: there is none.")),
      emit() {},
      checkCancelled() {},
    });
  } finally {
    texts.end();
    pool.close();
  }
}

async function inspect({ texts }: TaskContext, text: string) {
  const path = await Deno.makeTempFile({ suffix: ".jsonl" });
  try {
    await Deno.writeTextFile(path, text);
    const file = { id: "file-1", path, filename: "train.jsonl" };
    return await inspectFile(texts, { kind: "inspect_file", file });
  } finally {
    await Deno.remove(path);
  }
}

Deno.test("a model is described and a file inspected without a GPU", () =>
  withoutGpu(async (context) => {
    const details = await context.texts.call("describe_model", { model: tiny });
    assertStrictEquals(details.architecture, "llama");
    const labelled = '{"question":"1+1?","answer":"2","system":"system1"}\n';
    const found = await inspect(context, labelled + '{"question":"2+2?","answer":"4"}\n');
    assertEquals(found, { samples: 2, labelled: 1, error: null });
    const { samples, error } = await inspect(context, labelled + "not JSON\n");
    assertStrictEquals(samples, 0);
    assert(/train\.jsonl.*line 2 is not JSON/.test(error!), error!);
  }));

Deno.test("a chat that is too long is refused for that, not for the missing GPU", () =>
  withoutGpu(async (context) => {
    const ask = (content: string) =>
      runTask(context, { ...chat, messages: [{ role: "user", content }] });
    await assertRejects(
      ask("word ".repeat(100_000)),
      ({ code }) => code === "context_length_exceeded",
    );
    await assertRejects(ask("Hi"), /there is none/);
    await assertRejects(runTask(context, { kind: "doctor" }), /there is none/);
  }));
