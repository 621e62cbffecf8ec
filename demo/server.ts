// The real server inside this process, on a free port of 127.0.0.1, for the demo's own use.

import project from "../deno.json" with { type: "json" };
import { startEngine } from "../lib/engine/engine.ts";
import { serverConfig } from "../lib/jobs/config.ts";
import { Models } from "../lib/jobs/models.ts";
import { Queue } from "../lib/jobs/queue.ts";
import { Store } from "../lib/jobs/store.ts";
import { createApp } from "../routes/app.ts";

export interface RunningServer {
  origin: string;
  close(): Promise<void>;
}

/** Starts it with its store in `dataFolder` and the embedded models only. */
export function startServer(dataFolder: string): RunningServer {
  // As in main.ts: without it a missing Vulkan driver falls back silently to OpenGL.
  if (Deno.build.os === "linux" && !Deno.env.get("DENO_WEBGPU_BACKEND")) {
    Deno.env.set("DENO_WEBGPU_BACKEND", "vulkan");
  }
  const config = serverConfig.parse({ port: 0, data: dataFolder });
  const store = new Store(config.data);
  const engine = startEngine({ choicesPath: `${config.data}/kernel_choices.json` });
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
    version: project.version,
  });
  const server = Deno.serve(
    { hostname: config.host, port: config.port, onListen: () => {} },
    app.fetch,
  );
  return {
    origin: `http://${config.host}:${server.addr.port}`,
    async close() {
      shutdown.abort();
      await Promise.all([server.shutdown(), queue.close()]);
      await engine.close();
      store.close();
    },
  };
}
