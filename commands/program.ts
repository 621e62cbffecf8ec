// The parts of a running lorapar, put together: store, engine, queue, models. The commands and the
// demo start here.

import { getLogger } from "@logtape/logtape";
import project from "../deno.json" with { type: "json" };
import { type Engine, startEngine } from "../lib/engine/engine.ts";
import type { ServerConfig } from "../lib/jobs/config.ts";
import { Models } from "../lib/jobs/models.ts";
import { Queue } from "../lib/jobs/queue.ts";
import { Store } from "../lib/jobs/store.ts";
import type { AppDeps } from "../routes/deps.ts";
import { isFolder } from "./settings.ts";

const logger = getLogger(["lorapar"]);

/** Starts the engine; its measured kernel choices are kept in the data folder, where there is one. */
export function startGpuEngine({ data, limits }: ServerConfig): Engine {
  // Without it a missing Vulkan driver falls back silently to OpenGL.
  if (Deno.build.os === "linux" && !Deno.env.get("DENO_WEBGPU_BACKEND")) {
    Deno.env.set("DENO_WEBGPU_BACKEND", "vulkan");
  }
  return startEngine({
    choicesPath: isFolder(data) ? `${data}/kernel_choices.json` : null,
    silenceMs: limits.engine_silence_seconds * 1000,
  });
}

/** Opens the store and starts the engine. @throws {Error} when another program holds the store. */
export function open(config: ServerConfig, shutdown: AbortSignal): AppDeps {
  const store = new Store(config.data);
  const engine = startGpuEngine(config);
  return {
    config,
    store,
    engine,
    shutdown,
    queue: new Queue(store, engine, config.limits),
    models: new Models(config.models, store),
    readKey: (name) => Deno.env.get(name),
    version: project.version,
  };
}

/** Ends what `open` began, within seconds, whatever the running job is at. */
export async function close({ queue, engine, store }: AppDeps): Promise<void> {
  await Promise.all([queue.close(), engine.close()]);
  store.close();
}

/**
 * Logs what nobody caught instead of ending the process. Whoever asked for it gets no answer, or a late
 * one; everyone else goes on.
 */
export function outliveFaults(): void {
  const log = (event: Event, error: unknown) => {
    event.preventDefault();
    logger.error("Nobody caught this: {error}", { error });
  };
  addEventListener("unhandledrejection", (event) => log(event, event.reason));
  addEventListener("error", (event) => log(event, event.error));
}

/** Calls `first` on the first SIGINT or SIGTERM; the second ends the process at once. */
export function onStop(first: () => void): void {
  let count = 0;
  const stop = () => {
    if (++count === 1) first();
    else Deno.exit(130);
  };
  Deno.addSignalListener("SIGINT", stop);
  if (Deno.build.os !== "windows") Deno.addSignalListener("SIGTERM", stop);
}
