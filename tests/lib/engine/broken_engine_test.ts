// The real Worker outlives what nobody catches and the loss of its device, and the server goes on.

import { assert, assertStrictEquals } from "@std/assert";
import { fileURLToPath } from "node:url";
import type { ModelReference } from "../../../lib/engine/messages.ts";
import { startEngine } from "../../../lib/engine/engine.ts";
import { assertRejects } from "../../asserts.ts";

const tiny: ModelReference = {
  id: "lorapar-tiny",
  baseId: "lorapar-tiny",
  path: fileURLToPath(new URL("../../../models/tiny", import.meta.url)),
  adapterFolder: null,
};
const settings = { temperature: 0, topP: 1, topK: 0, minP: 0, seed: 0, stop: [], n: 1 };
const messages = [{ role: "user", content: "Hi" }];

Deno.test("unawaited rejections, thrown errors and a lost device end no Worker", async () => {
  const engine = startEngine({ workerUrl: new URL("./breaking_worker.ts", import.meta.url) });
  try {
    const chatWith = async (model: ModelReference, maxTokens = 8) => {
      const task = { kind: "chat" as const, model, messages, maxTokens, ...settings };
      return (await engine.run(task)).choices[0].text;
    };
    const chat = (maxTokens?: number) => chatWith(tiny, maxTokens);
    const breaking = (id: string) =>
      assertRejects(chatWith({ ...tiny, id, path: "/nowhere" }), /nowhere/);
    const wanted = await chat();
    assertStrictEquals(engine.problem(), null);
    for (const id of ["test:reject", "test:throw", "test:destroy"]) {
      // A chat under way is a bystander; only the loss of the device can fail it.
      const bystander = chat(32);
      await breaking(id);
      if (id === "test:destroy") await bystander.catch(() => {});
      else assert((await bystander).startsWith(wanted), id);
      assertStrictEquals(await chat(), wanted, id);
      assertStrictEquals(engine.problem(), null);
    }
    // Lost while nothing runs, the next chat does not notice.
    await breaking("test:destroy");
    assertStrictEquals(await chat(), wanted);
  } finally {
    await engine.close();
  }
});
