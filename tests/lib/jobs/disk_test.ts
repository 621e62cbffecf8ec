// What is told to be done is on the disk first: every file and folder a job wrote is synced before the
// row says that it succeeded.

import { assert, assertEquals } from "@std/assert";
import { syncTree } from "../../../lib/jobs/disk.ts";
import { planClassify, planEvaluate, planPartition, planTrain } from "../../../lib/jobs/plan.ts";
import { rethreshold } from "../../../lib/jobs/short_tasks.ts";
import { Store } from "../../../lib/jobs/store.ts";
import { classifySettings, partitionSettings } from "../../../lib/par/settings.ts";
import { evaluateSettings, trainSettings } from "../../../lib/train/settings.ts";
import { type Fixture, fixture } from "./fixture.ts";

/** Runs `work` and answers the paths that were synced, in order; a file whose sync fails is not there. */
async function watchSyncs(work: (synced: string[]) => Promise<void>): Promise<void> {
  const { open } = Deno;
  const synced: string[] = [];
  Deno.open = async (path, options) => {
    const file = await open(path, options);
    const sync = file.sync.bind(file);
    file.sync = async () => {
      await sync();
      synced.push(String(path));
    };
    return file;
  };
  try {
    await work(synced);
  } finally {
    Deno.open = open;
  }
}

/** A folder, everything in it, and the folder that holds its name. */
function treeOf(folder: string): string[] {
  const inside = [...Deno.readDirSync(folder)].flatMap(({ name, isDirectory }) =>
    isDirectory ? treeOf(`${folder}/${name}`).slice(0, -1) : [`${folder}/${name}`]
  );
  return [...inside, folder, folder.slice(0, folder.lastIndexOf("/"))];
}

Deno.test("a tree is synced from its files up to the folder that holds its name", async () => {
  const root = await Deno.makeTempDir();
  try {
    await Deno.mkdir(`${root}/job/adapter/deep`, { recursive: true });
    for (const path of ["job/a.jsonl", "job/adapter/b.json", "job/adapter/deep/c"]) {
      await Deno.writeTextFile(`${root}/${path}`, "x");
    }
    await Deno.symlink("/nowhere", `${root}/job/link`);
    await watchSyncs(async (synced) => {
      await syncTree(`${root}/job`);
      const wanted = treeOf(`${root}/job`).filter((path) => !path.endsWith("/link"));
      assertEquals(synced.toSorted(), wanted.toSorted());
      const at = (path: string) => synced.indexOf(`${root}${path}`);
      assert(at("/job/adapter/deep/c") < at("/job/adapter/deep"));
      assert(at("/job/adapter/deep") < at("/job/adapter") && at("/job/adapter") < at("/job"));
      assert(at("/job") < at(""));
    });
  } finally {
    await Deno.remove(root, { recursive: true });
  }
});

Deno.test("a job whose files cannot be synced fails and leaves no row of them", async () => {
  const { sync } = Deno.FsFile.prototype;
  Deno.FsFile.prototype.sync = () => Promise.reject(new Error("Input/output error (os error 5)"));
  try {
    await using f = await fixture();
    const model = "lorapar-tiny";
    await Deno.writeTextFile(f.store.resolve("uploads/x"), "{}\n");
    const file = f.store.addFile({
      id: "file-01jz8x4k7m9q2r5t8v1w3y6z0a",
      bytes: 3,
      filename: "x.jsonl",
      path: "uploads/x",
      purpose: "fine-tune",
    }).id;
    const plan = await planTrain(f, trainSettings.parse({ model, file }));
    const job = await f.queue.wait(f.queue.submit(plan).id, 10);
    assertEquals([job.status, job.error?.code], ["failed", "internal_error"]);
    assertEquals(f.store.adapters({ limit: 10, order: "asc" }).data, []);
  } finally {
    Deno.FsFile.prototype.sync = sync;
  }
});

async function plans(f: Fixture) {
  const model = "lorapar-tiny";
  const file = await f.upload("{}\n");
  const samples = [{ question: "1+1", answer: "2" }];
  const teachers = [{ name: "t", model }];
  const grader = { type: "string_check" };
  return [
    await planTrain(f, trainSettings.parse({ model, file })),
    await planClassify(f, classifySettings.parse({ samples, target_model: model, teachers })),
    await planPartition(f, partitionSettings.parse({ model, file })),
    await planEvaluate(f, evaluateSettings.parse({ model, file, grader })),
  ];
}

Deno.test("all that a job of any kind wrote is synced when its row says that it succeeded", () =>
  watchSyncs(async (synced) => {
    await using f = await fixture();
    const succeed = f.store.succeedJob.bind(f.store);
    const atSuccess = new Map<string, string[]>();
    f.store.succeedJob = (id, register) => {
      atSuccess.set(id, [...synced]);
      succeed(id, register);
    };
    for (const plan of await plans(f)) {
      const { id, status } = await f.queue.wait(f.queue.submit(plan).id, 10);
      assertEquals(status, "succeeded");
      const wanted = treeOf(f.store.resolve(`jobs/${id}`));
      assert(wanted.length > 2);
      const found = atSuccess.get(id)!;
      assertEquals(wanted.filter((path) => !found.includes(path)), []);
    }
  }));

Deno.test("so is a rethresholded partition before it is answered", () =>
  watchSyncs(async (synced) => {
    await using f = await fixture();
    const plan = (await plans(f))[2]!;
    const { result } = await f.queue.wait(f.queue.submit(plan).id, 10);
    const source = f.store.partition((result as { partition: string }).partition)!;
    const settings = { theta: 0.5, alpha: 1, beta: 1 };
    const { folder } = await rethreshold(f, source, settings, new AbortController().signal);
    assertEquals(treeOf(f.store.resolve(folder)).filter((path) => !synced.includes(path)), []);
  }));

Deno.test("the folders of a new store are synced where they lie", async () => {
  const root = await Deno.makeTempDir();
  const { openSync } = Deno;
  const synced: string[] = [];
  Deno.openSync = (path, options) => {
    const file = openSync(path, options);
    const sync = file.syncSync.bind(file);
    file.syncSync = () => {
      sync();
      synced.push(String(path));
    };
    return file;
  };
  try {
    new Store(`${root}/data`).close();
    assertEquals(synced, [`${root}/data`, root]);
  } finally {
    Deno.openSync = openSync;
    await Deno.remove(root, { recursive: true });
  }
});
