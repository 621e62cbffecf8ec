import { assertEquals } from "@std/assert";
import { assertRejects } from "../../asserts.ts";
import { fixture } from "./fixture.ts";

Deno.test("models: folders with config.json and .gguf files, beside the embedded ones", async () => {
  const models = await Deno.makeTempDir();
  try {
    await Deno.mkdir(`${models}/Qwen2.5-0.5B`);
    await Deno.writeTextFile(`${models}/Qwen2.5-0.5B/config.json`, "{}");
    await Deno.mkdir(`${models}/no-model`);
    await Deno.writeTextFile(`${models}/small.Q4_1.gguf`, "");
    await Deno.writeTextFile(`${models}/notes.txt`, "");
    await using f = await fixture({ models });
    await Deno.mkdir(`${f.folder}/models/teacher_a`);
    await Deno.writeTextFile(`${f.folder}/models/teacher_a/config.json`, "{}");
    assertEquals(
      (await f.models.list()).map(({ id, owner }) => [id, owner]),
      [["lorapar-teacher-a", "lorapar"], ["lorapar-tiny", "lorapar"], ["Qwen2.5-0.5B", "user"], [
        "small.Q4_1",
        "user",
      ]],
    );
    assertEquals((await f.models.get("small.Q4_1")).reference, {
      baseId: "small.Q4_1",
      id: "small.Q4_1",
      path: `${models}/small.Q4_1.gguf`,
      adapterFolder: null,
    });
    for (const id of ["notes.txt", "no-model", "../models/small.Q4_1", "lorapar-tiny:none", ""]) {
      await assertRejects(f.models.get(id), /Cannot find the model/);
    }
  } finally {
    await Deno.remove(models, { recursive: true });
  }
});

Deno.test("a trained model needs its base, and says so when it is gone", async () => {
  await using f = await fixture();
  f.store.durably(() =>
    f.store.addAdapter({
      id: "adapter-1",
      job_id: null,
      base: "gone",
      model: "gone:x",
      partition_id: null,
      folder: "jobs/x/adapter",
      phases: [],
    })
  );
  await assertRejects(f.models.get("gone:x"), /its base "gone" is gone/);
  assertEquals((await f.models.list()).map((model) => model.id), ["lorapar-tiny"]);
});
