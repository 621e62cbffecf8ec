// kill -9 at random moments: after a restart all that was acknowledged is there, nothing is left that no
// row names, and the queue goes on.

import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { fileURLToPath } from "node:url";
import { hasEnded } from "../../../lib/jobs/queue.ts";
import { Store } from "../../../lib/jobs/store.ts";
import type { Told } from "./killed_server.ts";

const rounds = 8;

/** Starts the server, kills it a moment after it told `lines` things, and answers all that it told. */
async function killAfter(folder: string, seed: number, lines: number): Promise<Told[]> {
  const script = fileURLToPath(new URL("./killed_server.ts", import.meta.url));
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", script, folder, String(seed)],
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const errors = new Response(child.stderr).text();
  let text = "";
  let timer: ReturnType<typeof setTimeout> | undefined;
  for await (const piece of child.stdout.pipeThrough(new TextDecoderStream())) {
    text += piece;
    if (text.split("\n").length <= lines) continue;
    timer ??= setTimeout(() => child.kill("SIGKILL"), 10 * Math.random());
  }
  clearTimeout(timer);
  const { signal } = await child.status;
  assertStrictEquals(signal, "SIGKILL", await errors);
  // The kill may have cut the last line.
  return text.slice(0, text.lastIndexOf("\n") + 1).trim().split("\n")
    .filter((line) => line !== "").map((line) => JSON.parse(line));
}

/** Files and folders under uploads/, jobs/ and partitions/ that no row names and no job is left to use. */
function orphans(store: Store): string[] {
  const all = { limit: 100_000, order: "asc" } as const;
  const named = [
    ...store.files(all).data.map(({ path }) => path),
    ...store.partitions(all).data.map(({ folder }) => folder),
    ...store.adapters(all).data.map(({ folder }) => folder),
  ];
  const isNamed = (path: string) =>
    named.some((name) =>
      name === path || name.startsWith(`${path}/`) || path.startsWith(`${name}/`)
    );
  const look = (folder: string): string[] =>
    [...Deno.readDirSync(store.resolve(folder))].flatMap(({ name, isDirectory }) => {
      const path = `${folder}/${name}`;
      return isNamed(path) ? isDirectory ? look(path) : [] : [path];
    });
  return ["uploads", "jobs", "partitions"].flatMap(look);
}

Deno.test("after kill -9 at any moment all that was told is there, and nothing else", async () => {
  const folder = await Deno.makeTempDir();
  const files = new Map<string, string>();
  const jobs: string[] = [];
  const adapters = new Map<string, string>();
  const deleting = new Set<string>();
  const deleted: string[] = [];
  try {
    for (let round = 0; round < rounds; round++) {
      for (const line of await killAfter(folder, round + 1, 1 + 12 * round)) {
        if (line.told === "file") files.set(line.id, line.text!);
        else if (line.told === "job") jobs.push(line.id);
        else if (line.told === "succeeded") adapters.set(line.id, line.adapter);
        else if (line.told === "deleting") deleting.add(line.id);
        else if (line.told === "deleted") deleted.push(line.id);
      }
      const store = new Store(folder);
      try {
        for (const [id, text] of files) {
          const row = store.file(id);
          // A deletion that was not answered may have happened.
          if (!row && deleting.has(id)) continue;
          assert(row, `${id} is gone`);
          assertStrictEquals(await Deno.readTextFile(store.resolve(row.path)), text);
        }
        for (const id of deleted) assertStrictEquals(store.file(id), null);
        for (const id of jobs) {
          const job = store.job(id);
          assert(job && (job.status === "queued" || hasEnded(job)), `${id} is ${job?.status}`);
          assertStrictEquals(store.events(id, 0, 1000).at(-1)?.data.status, job.status);
        }
        for (const [id, adapter] of adapters) {
          assertStrictEquals(store.job(id)!.status, "succeeded");
          const { folder } = store.adapter(adapter)!;
          const { size } = await Deno.stat(store.resolve(`${folder}/adapter_config.json`));
          assert(size > 0);
        }
        assertEquals(orphans(store), []);
      } finally {
        store.close();
      }
    }
    // The rounds met what they are for.
    assert(files.size > 20 && deleted.length > 5 && adapters.size > 5, `${files.size} files`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
