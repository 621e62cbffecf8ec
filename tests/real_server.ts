// The app over the real engine (a Worker with the GPU) in a temporary folder, with short ways to ask
// it. A file of system tests has one, because each Worker loads its models anew.

import { assertStrictEquals } from "@std/assert";
import { demoSamples } from "../demo/corpus.ts";
import { type Engine, startEngine } from "../lib/engine/engine.ts";
import { serverConfig } from "../lib/jobs/config.ts";
import { Models } from "../lib/jobs/models.ts";
import { Queue } from "../lib/jobs/queue.ts";
import { Store } from "../lib/jobs/store.ts";
import { createApp } from "../routes/app.ts";
import { untar } from "../demo/verify.ts";

// deno-lint-ignore no-explicit-any
export type Json = any;

/** What an answer holds besides its status. */
export type Answer = [status: number, body: Json];

export interface RealServer extends AsyncDisposable {
  /** Holds data/ and models/ (LORAPAR_MODELS). */
  folder: string;
  store: Store;
  engine: Engine;
  fetch(request: Request): Response | Promise<Response>;
  request(path: string, init?: RequestInit): Promise<Response>;
  get(path: string): Promise<Answer>;
  post(path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>;
  /** Uploads records as JSON lines, or a text as it is, and answers the file's id. */
  upload(content: unknown[] | string, filename?: string): Promise<string>;
  /** Runs a job to its end, whatever that is. @throws {Error} when the request is refused. */
  job(path: string, body: unknown): Promise<Json>;
  /** The result of a job that succeeds. @throws {Error} with the job's own words otherwise. */
  run(path: string, body: unknown): Promise<Json>;
}

/** Starts it; close it with `await using`. */
export async function realServer(): Promise<RealServer> {
  if (Deno.build.os === "linux" && !Deno.env.get("DENO_WEBGPU_BACKEND")) {
    Deno.env.set("DENO_WEBGPU_BACKEND", "vulkan");
  }
  const folder = await Deno.makeTempDir({ prefix: "lorapar-test-" });
  await Deno.mkdir(`${folder}/models`);
  const config = serverConfig.parse({ data: `${folder}/data`, models: `${folder}/models` });
  config.limits.progress_interval_ms = 0;
  const store = new Store(config.data);
  const engine = startEngine();
  const queue = new Queue(store, engine, config.limits);
  const shutdown = new AbortController();
  const app = createApp({
    config,
    store,
    engine,
    queue,
    models: new Models(config.models, store),
    readKey: () => undefined,
    shutdown: shutdown.signal,
    version: "0.0.0",
  });
  const request = async (path: string, init?: RequestInit) => await app.request(path, init);
  const post: RealServer["post"] = async (path, body, headers = {}) => {
    const response = await request(path, {
      method: "POST",
      body: body === undefined ? undefined : JSON.stringify(body),
      headers: { "content-type": "application/json", ...headers },
    });
    return [response.status, await response.json()];
  };
  const job: RealServer["job"] = async (path, body) => {
    const [status, answer] = await post(path, body, { prefer: "wait=600" });
    if (status !== 200) {
      throw new Error(`${path} was answered ${status}: ${JSON.stringify(answer)}`);
    }
    return answer;
  };
  return {
    folder,
    store,
    engine,
    fetch: (one) => app.fetch(one),
    request,
    post,
    async get(path) {
      const response = await request(path);
      return [response.status, await response.json()];
    },
    async upload(content, filename = "train.jsonl") {
      const text = typeof content === "string" ? content : jsonLines(content);
      const form = new FormData();
      form.append("purpose", "fine-tune");
      form.append("file", new Blob([text]), filename);
      const response = await request("/v1/files", { method: "POST", body: form });
      const answer = await response.json();
      if (response.status !== 200) throw new Error(JSON.stringify(answer));
      return answer.id;
    },
    job,
    async run(path, body) {
      const { status, result, error } = await job(path, body);
      if (status !== "succeeded") throw new Error(`${path} ${status}: ${JSON.stringify(error)}`);
      return result;
    },
    async [Symbol.asyncDispose]() {
      shutdown.abort();
      await Promise.all([queue.close(), engine.close()]);
      store.close();
      await Deno.remove(folder, { recursive: true });
    },
  };
}

export function jsonLines(records: unknown[]): string {
  return records.map((record) => JSON.stringify(record) + "\n").join("");
}

/** Labelled samples of the demo's world, half of each system. */
export function labelledSamples(count: number, seed = 0) {
  return demoSamples(seed, { train: count, heldOut: 0 }).train;
}

/** Phases of a few short steps that move elements: the first step of a warm-up would not. */
export const quickSft = {
  kind: "sft",
  learning_rate: 1e-3,
  warmup_ratio: 0,
  max_steps: 2,
  per_device_train_batch_size: 4,
  gradient_accumulation_steps: 1,
};
export const quickGrpo = {
  kind: "grpo",
  learning_rate: 1e-3,
  warmup_ratio: 0,
  max_steps: 2,
  num_generations: 4,
  per_device_train_batch_size: 8,
  max_completion_length: 12,
};

/** The bytes of a download. */
export async function download(server: RealServer, path: string): Promise<Uint8Array<ArrayBuffer>> {
  const response = await server.request(path);
  assertStrictEquals(response.status, 200);
  return await response.bytes();
}

/** The files of an adapter's download, unpacked into a folder of their own. */
export async function adapterFolder(server: RealServer, id: string): Promise<string> {
  const folder = `${server.folder}/${id}`;
  await Deno.mkdir(folder, { recursive: true });
  const tar = await download(server, `/v1/adapters/${id}/download?format=peft`);
  for (const [name, bytes] of untar(tar)) await Deno.writeFile(`${folder}/${name}`, bytes);
  return folder;
}

/** A partition's download as a file. */
export async function partitionPath(server: RealServer, id: string): Promise<string> {
  const path = `${server.folder}/${id}.safetensors`;
  await Deno.writeFile(path, await download(server, `/v1/partitions/${id}/download`));
  return path;
}

/** The first choice of a greedy chat completion. */
export async function chat(
  server: RealServer,
  name: string,
  content: string,
  more = {},
): Promise<Json> {
  const messages = [{ role: "user", content }];
  const body = { model: name, messages, temperature: 0, max_tokens: 12, ...more };
  const [status, answer] = await server.post("/v1/chat/completions", body);
  assertStrictEquals(status, 200, JSON.stringify(answer));
  return answer.choices[0];
}
