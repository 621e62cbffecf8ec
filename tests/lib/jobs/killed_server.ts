// A server on a fake engine that uploads, queues, deletes and trains by itself without end, and prints a
// line of JSON for each thing that a client would have been told of, and before each deletion. Killed at
// any moment by kill_test.ts.   deno run killed_server.ts DATA_FOLDER SEED

import { serverConfig } from "../../../lib/jobs/config.ts";
import { Models } from "../../../lib/jobs/models.ts";
import { Queue } from "../../../lib/jobs/queue.ts";
import { restoreQueue } from "../../../lib/jobs/restore.ts";
import { Store } from "../../../lib/jobs/store.ts";
import { createApp } from "../../../routes/app.ts";
import { fakeEngine, usual } from "../../fake_engine.ts";

/** What the lines say. */
export type Told =
  | { told: "ready" }
  | { told: "file" | "deleting" | "deleted"; id: string; text?: string }
  | { told: "job"; id: string }
  | { told: "succeeded"; id: string; adapter: string };

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

async function run(folder: string, seed: number): Promise<void> {
  let state = seed;
  const random = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
  const tell = (line: Told) =>
    Deno.stdout.writeSync(new TextEncoder().encode(JSON.stringify(line) + "\n"));

  const config = serverConfig.parse({ data: folder, limits: { max_queued_jobs: 20 } });
  const store = new Store(folder);
  // Its results appear file by file, as a training's do.
  const engine = fakeEngine(async (task, onEvent, signal) => {
    await pause(5 * random());
    const result = await usual(task, onEvent, signal);
    await pause(5 * random());
    return result;
  });
  const queue = new Queue(store, engine, config.limits);
  const deps = { config, store, engine, queue, models: new Models(null, store) };
  const shutdown = new AbortController().signal;
  const all = { ...deps, readKey: () => undefined, shutdown, version: "0.0.0" };
  const resume = await restoreQueue(all);
  const app = createApp(all);
  resume();
  tell({ told: "ready" });

  const upload = async () => {
    const text = JSON.stringify({ seed, at: random() }).repeat(1 + Math.floor(2000 * random()));
    const form = new FormData();
    form.append("file", new File([text], "a.jsonl"));
    const response = await app.request("/v1/files", { method: "POST", body: form });
    const { id } = await response.json();
    tell({ told: "file", id, text });
    return id;
  };
  const train = async (file: string) => {
    const response = await app.request("/v1/train", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ model: "lorapar-tiny", file }),
    });
    const { id } = await response.json();
    if (response.status !== 202) return;
    tell({ told: "job", id });
    queue.wait(id, 60).then(({ status, result }) => {
      const { adapter } = (result ?? {}) as { adapter: string };
      if (status === "succeeded") tell({ told: "succeeded", id, adapter });
    });
  };
  const remove = async (id: string) => {
    tell({ told: "deleting", id });
    const response = await app.request(`/v1/files/${id}`, { method: "DELETE" });
    await response.body?.cancel();
    if (response.ok) tell({ told: "deleted", id });
  };
  while (true) {
    const [kept, removed] = [await upload(), await upload()];
    await Promise.all([train(kept), train(kept), remove(removed), pause(10 * random())]);
  }
}

if (import.meta.main) await run(Deno.args[0]!, Number(Deno.args[1]));
