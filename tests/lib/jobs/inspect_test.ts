// An upload that cannot be read says so on upload, and is stored whatever the look at it comes to.

import { assertEquals, assertStrictEquals } from "@std/assert";
import { GpuError } from "../../../lib/errors.ts";
import { Inspector } from "../../../lib/jobs/inspect.ts";
import { planTrain } from "../../../lib/jobs/plan.ts";
import { Store } from "../../../lib/jobs/store.ts";
import { trainSettings } from "../../../lib/train/settings.ts";
import { assertRejects } from "../../asserts.ts";
import type { Behaviour } from "../../fake_engine.ts";
import { appFixture } from "../../routes/fixture.ts";
import { type Fixture, fixture } from "./fixture.ts";

const reason = "Cannot read a.jsonl: line 2 is no JSON";
const unreadable: Behaviour = () => Promise.resolve({ samples: 0, labelled: 0, error: reason });

async function uploaded({ store }: Fixture) {
  const chunks = (async function* () {
    yield new TextEncoder().encode("{}\n{");
  })();
  const upload = await store.writeUpload("a.jsonl", chunks, Infinity);
  return store.addFile({ ...upload, purpose: "fine-tune" }, "uploaded");
}

Deno.test("an upload that cannot be read says so, and no job takes it", async () => {
  await using f = await appFixture({}, unreadable);
  const form = new FormData();
  form.append("file", new File(["{}\n{"], "a.jsonl"));
  const response = await f.request("/v1/files", { method: "POST", body: form });
  const file = await response.json();
  assertEquals([response.status, file.status, file.status_details], [200, "error", reason]);
  assertEquals((await f.get(`/v1/files/${file.id}`))[1], file);
  const [status, { error }] = await f.post("/v1/train", { model: "lorapar-tiny", file: file.id });
  assertEquals([status, error.param, error.message], [422, "file", reason]);
  assertStrictEquals((await f.request(`/v1/files/${file.id}`, { method: "DELETE" })).status, 200);
});

Deno.test("what was found is a row: a restart still has it", async () => {
  await using f = await fixture({}, unreadable);
  const { id } = await new Inspector(f.store, f.engine).inspect(await uploaded(f));
  const copy = `${f.folder}/copy`;
  await Deno.mkdir(`${copy}/uploads`, { recursive: true });
  for (const { name } of Deno.readDirSync(f.store.folder)) {
    if (name.includes("sqlite")) await Deno.copyFile(f.store.resolve(name), `${copy}/${name}`);
  }
  const again = new Store(copy);
  assertEquals([again.file(id)!.status, again.file(id)!.status_details], ["error", reason]);
  again.close();
});

Deno.test("while the engine is down an upload is stored, and can be used", async () => {
  await using f = await fixture({}, () => Promise.reject(new GpuError("It is down.")));
  const row = await new Inspector(f.store, f.engine).inspect(await uploaded(f));
  assertStrictEquals(row.status, "uploaded");
  await planTrain(f, trainSettings.parse({ model: "lorapar-tiny", file: row.id }));
});

Deno.test("a look that takes long is answered before it ends, and noted when it does", async () => {
  const ends: PromiseWithResolvers<unknown>[] = [];
  await using f = await fixture({}, () => {
    ends.push(Promise.withResolvers());
    return ends.at(-1)!.promise;
  });
  const inspector = new Inspector(f.store, f.engine, 10);
  const files = [await uploaded(f), await uploaded(f), await uploaded(f)];
  for (const file of files) assertStrictEquals((await inspector.inspect(file)).status, "uploaded");
  // One at a time; one that was deleted meanwhile is not looked at.
  assertStrictEquals(ends.length, 1);
  await f.store.removeFile(files[1]!);
  ends[0]!.resolve({ samples: 0, labelled: 0, error: reason });
  while (ends.length < 2) await new Promise((resolve) => setTimeout(resolve, 1));
  assertStrictEquals(f.store.file(files[0]!.id)!.status, "error");
  assertEquals(f.engine.tasks.map((task) => (task as { file: { id: string } }).file.id), [
    files[0]!.id,
    files[2]!.id,
  ]);
  ends[1]!.resolve({ samples: 2, labelled: 0, error: null });
  while (f.store.file(files[2]!.id)!.status === "uploaded") {
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  assertStrictEquals(f.store.file(files[2]!.id)!.status, "processed");
  const plan = planTrain(f, trainSettings.parse({ model: "lorapar-tiny", file: files[0]!.id }));
  await assertRejects(plan, (error) => error.name === "InvalidFile" && error.message === reason);
});
