import { assert, assertEquals } from "@std/assert";
import { assertRejects, assertThrows } from "../../asserts.ts";
import { DatabaseSync } from "node:sqlite";
import { isId, newId } from "../../../lib/jobs/ids.ts";
import { Store } from "../../../lib/jobs/store.ts";

async function withFolder(run: (folder: string) => void | Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await run(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function* chunksOf(...texts: string[]) {
  for (const text of texts) yield new TextEncoder().encode(text);
}

Deno.test("ids carry their prefix, sort by time and are checked whole", () => {
  const early = newId("job", 1_000);
  const late = newId("job", 2_000_000_000_000);
  assert(early < late);
  assert(isId("job", early));
  assert(!isId("file", early));
  assert(!isId("job", `${early}/../x`));
  assert(!isId("job", `${early}\n`));
  assert(!isId("job", "job-"));
});

Deno.test("a restart keeps rows and bytes, and marks cut-off jobs as interrupted", () =>
  withFolder(async (folder) => {
    const first = new Store(folder);
    const upload = await first.writeUpload("A.JSONL", chunksOf("ab", "cd"), 4);
    const file = first.addFile({ ...upload, purpose: "fine-tune" });
    first.addJob("job-queued", "train", { model: "m" });
    first.addJob("job-running", "train", {});
    first.beginJob("job-running");
    first.addJob("job-done", "train", {});
    first.succeedJob("job-done", () => ({ x: 1 }));
    first.close();

    const second = new Store(folder);
    assertEquals(second.file(file.id), file);
    assertEquals(await Deno.readTextFile(second.resolve(file.path)), "abcd");
    assert(file.path.endsWith(".jsonl"));
    const job = second.job("job-running")!;
    assertEquals([job.status, job.error?.code], ["failed", "interrupted"]);
    assert(job.finished_at !== null);
    const last = second.events(job.id, 0, 100).at(-1)!;
    assertEquals([last.type, last.data.status], ["status", "failed"]);
    const queued = second.job("job-queued")!;
    assertEquals([queued.status, queued.request], ["queued", { model: "m" }]);
    assertEquals(second.job("job-done")!.result, { x: 1 });
    assertEquals(second.job("job-done")!.status, "succeeded");
    second.close();
  }));

Deno.test("one process at a time holds a store, and says so", () =>
  withFolder((folder) => {
    const first = new Store(folder);
    assertThrows(() => new Store(folder), /another lorapar is using it/);
    first.close();
    new Store(folder).close();
  }));

Deno.test("a store of a newer version is refused and left alone", () =>
  withFolder((folder) => {
    new Store(folder).close();
    const db = new DatabaseSync(`${folder}/lorapar.sqlite`);
    db.exec("PRAGMA user_version = 99");
    db.close();
    assertThrows(() => new Store(folder), /its version is 99/);
  }));

Deno.test("an upload past the limit, or one that breaks off, leaves nothing", () =>
  withFolder(async (folder) => {
    const store = new Store(folder);
    await assertRejects(
      store.writeUpload("a.jsonl", chunksOf("abc", "de"), 4),
      /larger than 4 bytes/,
    );
    const broken = (async function* () {
      yield* chunksOf("abc");
      throw new Error("gone");
    })();
    await assertRejects(store.writeUpload("a.jsonl", broken, 100), /gone/);
    assertEquals([...Deno.readDirSync(`${folder}/uploads`)], []);
    store.close();
  }));

Deno.test("pages follow each other without gap or repetition, both ways", () =>
  withFolder((folder) => {
    const store = new Store(folder);
    const ids = Array.from({ length: 5 }, (_, i) => `job-${i}`);
    for (const id of ids) store.addJob(id, "classify", {});
    for (const order of ["asc", "desc"] as const) {
      const seen: string[] = [];
      for (let more = true; more;) {
        const page = store.jobs({ after: seen.at(-1), limit: 2, order });
        seen.push(...page.data.map((job) => job.id));
        assertEquals(page.has_more, seen.length < 5);
        more = page.has_more;
      }
      assertEquals(seen, order === "asc" ? ids : ids.toReversed());
    }
    assertThrows(() => store.jobs({ after: "job-9", limit: 2, order: "asc" }), /no such id/);
    store.close();
  }));

Deno.test("a failed change is undone as a whole", () =>
  withFolder((folder) => {
    const store = new Store(folder);
    store.addJob("job-1", "train", {});
    assertThrows(() =>
      store.succeedJob("job-1", () => {
        store.addPartition({
          id: "part-1",
          job_id: "job-1",
          source_id: null,
          model: "m",
          folder: "jobs/job-1",
          report: {},
        });
        throw new Error("no disk");
      }), /no disk/);
    assertEquals(store.partition("part-1"), null);
    assertEquals(store.job("job-1")!.status, "queued");
    assertEquals(store.events("job-1", 0, 10).length, 1);
    store.close();
  }));

Deno.test("events are numbered from 1 in each job and found by type", () =>
  withFolder((folder) => {
    const store = new Store(folder);
    store.addJob("job-1", "train", {});
    store.addJob("job-2", "train", {});
    store.record("job-1", {}, [{ type: "metrics", data: { loss: 1 } }]);
    store.record("job-2", {}, [{ type: "log", data: { message: "x" } }]);
    store.record("job-1", {}, [{ type: "metrics", data: { loss: NaN } }]);
    assertEquals(store.events("job-2", 1, 10).map(({ number }) => number), [2]);
    assertEquals(
      store.events("job-1", 1, 10, "metrics").map(({ number, data }) => [number, data]),
      [[2, { loss: 1 }], [3, { loss: null }]],
    );
    assertEquals(store.events("job-1", 2, 10).length, 1);
    store.close();
  }));
