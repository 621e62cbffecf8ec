// The app over a fake engine in a temporary folder, with short ways to ask it.

import type { OpenAPIHono } from "@hono/zod-openapi";
import { createApp } from "../../routes/app.ts";
import type { AppDeps } from "../../routes/deps.ts";
import { type Fixture, fixture } from "../lib/jobs/fixture.ts";
import type { Behaviour } from "../fake_engine.ts";

// deno-lint-ignore no-explicit-any
export type Json = any;

export interface AppFixture extends AsyncDisposable {
  base: Fixture;
  app: OpenAPIHono;
  /** Ends event streams, as the server's stop does. */
  shutdown: AbortController;
  request(path: string, init?: RequestInit): Promise<Response>;
  /** Posts JSON and answers [status, body]. */
  post(path: string, body?: unknown, headers?: Record<string, string>): Promise<[number, Json]>;
  get(path: string): Promise<[number, Json]>;
  /** Runs a training to its end and answers the job. */
  trained(more?: Record<string, unknown>): Promise<Json>;
}

export async function appFixture(
  config: Record<string, unknown> = {},
  behave?: Behaviour,
): Promise<AppFixture> {
  const base = await fixture(config, behave);
  const shutdown = new AbortController();
  const deps: AppDeps = { ...base, shutdown: shutdown.signal, version: "0.0.0" };
  const app = createApp(deps);
  const request = async (path: string, init?: RequestInit) => await app.request(path, init);
  const answer = async (response: Response): Promise<[number, Json]> => [
    response.status,
    await response.json(),
  ];
  const post: AppFixture["post"] = async (path, body, headers = {}) =>
    await answer(
      await request(path, {
        method: "POST",
        body: body === undefined ? undefined : JSON.stringify(body),
        headers: { "content-type": "application/json", ...headers },
      }),
    );
  return {
    base,
    app,
    shutdown,
    request,
    post,
    get: async (path) => await answer(await request(path)),
    async trained(more = {}) {
      const file = await base.upload("{}\n");
      const body = { model: "lorapar-tiny", file, ...more };
      const [status, job] = await post("/v1/train", body, { prefer: "wait=10" });
      if (status !== 200 || job.status !== "succeeded") throw new Error(JSON.stringify(job));
      return job;
    },
    async [Symbol.asyncDispose]() {
      shutdown.abort();
      await base[Symbol.asyncDispose]();
    },
  };
}
