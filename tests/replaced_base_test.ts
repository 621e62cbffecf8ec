// A base whose folder is replaced while the server runs: the next task has the new weights, and what was
// made on the old ones is refused.

import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { tinyConfig, tinyTensors, writeHfFolder } from "./lib/model/tiny_model.ts";
import { type Json, quickSft, realServer } from "./real_server.ts";

Deno.test("a replaced base is loaded anew, and not trained on from the old weights", async () => {
  await using server = await realServer();
  const folder = `${server.folder}/models/base`;
  await writeHfFolder(folder);
  const lora = { r: 4, target_modules: ["q_proj"] };
  const file = await server.upload([
    { question: "a", answer: "b", system: "system1" },
    { question: "c", answer: "d", system: "system2" },
  ]);
  const answer = (model: string) =>
    server.post("/v1/chat/completions", {
      model,
      messages: [{ role: "user", content: "a" }],
      temperature: 0,
      max_tokens: 16,
    });
  const text = async (model: string) => {
    const [status, body] = await answer(model);
    assertStrictEquals(status, 200, JSON.stringify(body));
    return body.choices[0].message.content;
  };
  const train = (model: string, more: Json) => {
    const phase = { ...quickSft, data: "all", activate: "all", max_steps: 1, max_length: 64 };
    return server.job("/v1/train", { model, file, phases: [phase], ...more });
  };

  const before = await text("base");
  const { partition } = await server.run("/v1/partition", { model: "base", file, lora });
  const { result } = await train("base", { partition: null, lora });
  await text(result.model);
  assertStrictEquals((await train(result.model, { partition: null })).status, "succeeded");
  assertStrictEquals((await train("base", { partition })).status, "succeeded");

  const tensors = tinyTensors(tinyConfig);
  for (const { bytes } of tensors.values()) (bytes as Float32Array).reverse();
  await writeHfFolder(folder, tinyConfig, tensors);
  assert(await text("base") !== before);
  const [status, { error }] = await answer(result.model);
  assertEquals([status, error.code, error.param], [422, "base_changed", "model"]);
  const further = await train(result.model, { partition: null });
  assertEquals([further.status, further.error.code], ["failed", "base_changed"]);
  const byPartition = await train("base", { partition });
  assertEquals([byPartition.status, byPartition.error.code, byPartition.error.param], [
    "failed",
    "base_changed",
    "partition",
  ]);
  const [, { data }] = await server.get("/v1/partitions");
  assert(data.every((one: Json) => one.base_digest.startsWith("sha256-samples:")));

  await writeHfFolder(folder);
  assertStrictEquals(await text("base"), before);
  await text(result.model);
});
