// What needs no GPU is answered on a machine that has none.

import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { fileURLToPath } from "node:url";
import type { TaskContext } from "../../../lib/engine/context.ts";
import { createTurns } from "../../../lib/engine/turns.ts";
import { runTask } from "../../../lib/engine/tasks.ts";
import { GpuError } from "../../../lib/errors.ts";
import { assertRejects } from "../../asserts.ts";

const context: TaskContext = {
  turns: createTurns(),
  device: () => Promise.reject(new GpuError("Cannot open a GPU: there is none.")),
  emit() {},
  checkCancelled() {},
};

const tiny = {
  id: "lorapar-tiny",
  baseId: "lorapar-tiny",
  path: fileURLToPath(new URL("../../../models/tiny", import.meta.url)),
  adapterFolder: null,
};

async function inspect(text: string) {
  const path = await Deno.makeTempFile({ suffix: ".jsonl" });
  try {
    await Deno.writeTextFile(path, text);
    const file = { id: "file-1", path, filename: "train.jsonl" };
    // deno-lint-ignore no-explicit-any
    return await runTask(context, { kind: "inspect_file", file }) as any;
  } finally {
    await Deno.remove(path);
  }
}

Deno.test("a model is described and a file inspected without a GPU", async () => {
  const details = await runTask(context, { kind: "describe_model", model: tiny });
  assertStrictEquals((details as { architecture: string }).architecture, "llama");
  const labelled = '{"question":"1+1?","answer":"2","system":"system1"}\n';
  const found = await inspect(labelled + '{"question":"2+2?","answer":"4"}\n');
  assertEquals(found, { samples: 2, labelled: 1, error: null });
});

Deno.test("a file that cannot be read is told with the reason", async () => {
  const { samples, labelled, error } = await inspect(
    '{"question":"1+1?","answer":"2"}\nnot JSON\n',
  );
  assertEquals([samples, labelled], [0, 0]);
  assert(/train\.jsonl.*line 2 is not JSON/.test(error), error);
});

Deno.test("what needs a GPU says that there is none", async () => {
  await assertRejects(() => runTask(context, { kind: "doctor" }), /there is none/);
});
