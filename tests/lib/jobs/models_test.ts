import { assert, assertEquals } from "@std/assert";
import { assertRejects } from "../../asserts.ts";
import { fixture, linkTiny } from "./fixture.ts";

Deno.test("models: folders with config.json and .gguf files, beside the embedded ones", async () => {
  const models = await Deno.makeTempDir();
  try {
    await linkTiny(`${models}/Qwen2.5-0.5B`);
    await Deno.mkdir(`${models}/no-model`);
    await Deno.writeTextFile(`${models}/small.Q4_1.gguf`, "");
    await Deno.writeTextFile(`${models}/notes.txt`, "");
    await using f = await fixture({ models });
    await linkTiny(`${f.folder}/models/teacher_a`);
    assertEquals(
      (await f.models.list()).map(({ id, owner }) => [id, owner]),
      [["lorapar-teacher-a", "lorapar"], ["lorapar-tiny", "lorapar"], ["Qwen2.5-0.5B", "user"], [
        "small.Q4_1",
        "user",
      ]],
    );
    assertEquals((await f.models.find("small.Q4_1")).reference, {
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

Deno.test("what cannot be used is listed with the reason and refused with it; the others work", async () => {
  const models = await Deno.makeTempDir();
  try {
    await linkTiny(`${models}/good`);
    await linkTiny(`${models}/no-weights`);
    await Deno.remove(`${models}/no-weights/model.safetensors`);
    await Deno.mkdir(`${models}/empty`);
    await Deno.writeTextFile(`${models}/damaged.gguf`, "GGUF");
    await Deno.symlink(`${models}/loop`, `${models}/loop`);
    await Deno.symlink(`${models}/ring.gguf`, `${models}/ring.gguf`);
    await Deno.symlink("/nowhere", `${models}/dangling.gguf`);
    await new Deno.Command("mkfifo", { args: [`${models}/fifo.gguf`] }).output();
    await using f = await fixture({ models });
    const problems = async () =>
      new Map((await f.models.list()).map(({ id, problem }) => [id, problem]));
    const found = await problems();
    const bad = ["damaged", "dangling", "fifo", "loop", "no-weights", "ring"];
    assertEquals(
      [...found.keys()].toSorted(),
      [...bad, "good", "lorapar-tiny"].toSorted(),
    );
    for (const id of bad) {
      const problem = found.get(id);
      assert(typeof problem === "string" && !problem.includes(models), `${id}: ${problem}`);
      await assertRejects(
        f.models.get(id, "here"),
        (error) =>
          error.code === "model_unusable" && error.param === "here" &&
          error.message === `Cannot use the model "${id}": ${problem}`,
        id,
      );
    }
    assertEquals([found.get("good"), found.get("lorapar-tiny")], [null, null]);
    assertEquals((await f.models.get("good")).id, "good");
    // Looked at anew once its files are others.
    const weights = await Deno.readFile(`${models}/good/model.safetensors`);
    await Deno.writeFile(`${models}/no-weights/model.safetensors`, weights);
    assertEquals((await problems()).get("no-weights"), null);
    await Deno.remove(`${models}/good/config.json`);
    await Deno.writeTextFile(`${models}/good/config.json`, "[]");
    assert(/must be a JSON object/.test((await problems()).get("good")!));
  } finally {
    await Deno.remove(models, { recursive: true });
  }
});
