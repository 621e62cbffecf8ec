// A store, models and a queue with a fake engine in a temporary folder, closed when disposed of.

import { fileURLToPath } from "node:url";
import { Models } from "../../../lib/jobs/models.ts";
import type { PlanDeps } from "../../../lib/jobs/plan.ts";
import { Queue } from "../../../lib/jobs/queue.ts";
import { type ServerConfig, serverConfig } from "../../../lib/jobs/config.ts";
import { Store } from "../../../lib/jobs/store.ts";
import { type Behaviour, type FakeEngine, fakeEngine } from "../../fake_engine.ts";

export interface Fixture extends PlanDeps, AsyncDisposable {
  config: ServerConfig;
  store: Store;
  models: Models;
  engine: FakeEngine;
  queue: Queue;
  folder: string;
  /** Adds a file's row and bytes, answers its id. */
  upload(text: string, filename?: string): Promise<string>;
}

/** Makes a folder with the embedded model's files. */
export async function linkTiny(folder: string): Promise<void> {
  const source = fileURLToPath(new URL("../../../models/tiny", import.meta.url));
  await Deno.mkdir(folder, { recursive: true });
  for await (const { name } of Deno.readDir(source)) {
    await Deno.symlink(`${source}/${name}`, `${folder}/${name}`);
  }
}

/** One embedded model, `lorapar-tiny`, and whatever `config` asks for. */
export async function fixture(
  config: Record<string, unknown> = {},
  behave?: Behaviour,
): Promise<Fixture> {
  const folder = await Deno.makeTempDir();
  await linkTiny(`${folder}/models/tiny`);
  const whole = serverConfig.parse({ data: `${folder}/data`, ...config });
  whole.limits.progress_interval_ms = 0;
  const store = new Store(whole.data);
  const engine = fakeEngine(behave);
  const queue = new Queue(store, engine, whole.limits);
  return {
    config: whole,
    store,
    engine,
    queue,
    folder,
    models: new Models(whole.models, store, `${folder}/models/`),
    readKey: (name) => name === "TEACHER_API_KEY" ? "secret" : undefined,
    async upload(text, filename = "train.jsonl") {
      const chunks = (async function* () {
        yield new TextEncoder().encode(text);
      })();
      const upload = await store.writeUpload(filename, chunks, Infinity);
      return store.addFile({ ...upload, purpose: "fine-tune" }).id;
    },
    async [Symbol.asyncDispose]() {
      await queue.close();
      store.close();
      await Deno.remove(folder, { recursive: true });
    },
  };
}
