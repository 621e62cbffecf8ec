// What a crash leaves behind is removed at the next start, and nothing that a row names.

import { assertEquals } from "@std/assert";
import { cpSync } from "node:fs";
import { newId } from "../../../lib/jobs/ids.ts";
import { planPartition, planTrain } from "../../../lib/jobs/plan.ts";
import { rethreshold } from "../../../lib/jobs/short_tasks.ts";
import { Store } from "../../../lib/jobs/store.ts";
import { partitionSettings } from "../../../lib/par/settings.ts";
import { trainSettings } from "../../../lib/train/settings.ts";
import { fixture } from "./fixture.ts";

/** Every file and folder below `folder`, relative to it. */
function entriesOf(folder: string, prefix = ""): string[] {
  return [...Deno.readDirSync(folder)].flatMap(({ name, isDirectory }) => [
    `${prefix}${name}`,
    ...(isDirectory ? entriesOf(`${folder}/${name}`, `${prefix}${name}/`) : []),
  ]).toSorted();
}

/** The same without SQLite's own. */
function filesOf(folder: string): string[] {
  return entriesOf(folder).filter((name) => !name.startsWith("lorapar.sqlite"));
}

/** A data folder, as a kill leaves it, with something of every kind that rows name. */
async function filled() {
  const root = await Deno.makeTempDir();
  await using f = await fixture();
  const model = "lorapar-tiny";
  const file = await f.upload("{}\n");
  const run = async (plan: Parameters<typeof f.queue.submit>[0]) =>
    (await f.queue.wait(f.queue.submit(plan).id, 10)).result as Record<string, string>;
  await run(await planTrain(f, trainSettings.parse({ model, file, suffix: "a" })));
  const { partition } = await run(
    await planPartition(f, partitionSettings.parse({ model, file })),
  );
  const settings = { theta: 0.5, alpha: 1, beta: 1 };
  const { signal } = new AbortController();
  await rethreshold(f, f.store.partition(partition!)!, settings, signal);
  cpSync(f.store.folder, `${root}/data`, { recursive: true });
  return {
    root,
    folder: `${root}/data`,
    [Symbol.dispose]: () => Deno.removeSync(root, { recursive: true }),
  };
}

function write(path: string): void {
  Deno.mkdirSync(path.slice(0, path.lastIndexOf("/")), { recursive: true });
  Deno.writeTextFileSync(path, "left behind");
}

Deno.test("a start removes what no row names, and only that", async () => {
  using f = await filled();
  const { root, folder } = f;
  const before = filesOf(folder);
  const [job] = [...Deno.readDirSync(`${folder}/jobs`)].map(({ name }) => name).filter((name) =>
    before.includes(`jobs/${name}/adapter`)
  );
  // Cut-off and row-less uploads, dry runs, partitions and adapters whose row is gone, scratch of a job.
  write(`${folder}/uploads/${newId("file")}.jsonl.part`);
  write(`${folder}/uploads/${newId("file")}.csv`);
  write(`${folder}/jobs/${newId("job")}/adapter/adapter_model.safetensors`);
  write(`${folder}/partitions/${newId("part")}/partition.safetensors`);
  write(`${folder}/jobs/${job}/adapter.old/adapter_model.safetensors`);
  write(`${folder}/jobs/${job}/scratch`);
  // Not ours by its name: a data folder may have other things in it.
  const foreign = ["jobs/notes/plan.txt", "uploads/mine.jsonl", "partitions/part-1/x", "other/y"];
  for (const path of foreign) write(`${folder}/${path}`);
  // A link is removed as a link.
  write(`${root}/elsewhere/precious`);
  Deno.symlinkSync(`${root}/elsewhere`, `${folder}/jobs/${newId("job")}`);

  new Store(folder).close();
  const kept = foreign.flatMap((path) => [path.slice(0, path.lastIndexOf("/")), path]);
  assertEquals(
    filesOf(folder),
    [...new Set([...before, ...kept])].toSorted(),
  );
  assertEquals(entriesOf(`${root}/elsewhere`), ["precious"]);
});

Deno.test("a start on a data folder whose rows were taken away removes nothing", async () => {
  using f = await filled();
  const { folder } = f;
  for (const { name } of Deno.readDirSync(folder)) {
    if (name.startsWith("lorapar.sqlite")) Deno.removeSync(`${folder}/${name}`);
  }
  const before = filesOf(folder);
  // The second start finds the rows that the first one made.
  for (let start = 0; start < 2; start++) new Store(folder).close();
  assertEquals(filesOf(folder), before);
});
