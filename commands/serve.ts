// lorapar serve: the HTTP server, until a signal ends it.

import { getLogger } from "@logtape/logtape";
import { isLoopback, type ServerConfig } from "../lib/jobs/config.ts";
import { restoreQueue } from "../lib/jobs/restore.ts";
import { createApp } from "../routes/app.ts";
import { listen, type Listening } from "../routes/listen.ts";
import { close, onStop, open, outliveFaults } from "./program.ts";

/** The longest a stop waits for open answers; the engine takes two seconds of it. */
const graceMs = 5_000;

const logger = getLogger(["lorapar"]);

/** Serves until a signal; does not return. @throws {Error} when it cannot listen. */
export async function serve(config: ServerConfig): Promise<number> {
  if (!isLoopback(config.host) && config.api_key === null) {
    throw new Error(
      `Cannot listen on ${config.host} without an API key: others could use this machine. ` +
        "Set LORAPAR_API_KEY, or leave the host at 127.0.0.1.",
    );
  }
  outliveFaults();
  const shutdown = new AbortController();
  const deps = open(config, shutdown.signal);
  const resumeQueue = await restoreQueue(deps);
  let server: Listening;
  try {
    server = await listen(createApp(deps).fetch, config);
  } catch (error) {
    await close(deps);
    if ((error as { code?: string }).code !== "EADDRINUSE") throw error;
    throw new Error(
      `Cannot listen on ${config.host}:${config.port}: another program does. ` +
        "Stop that one, or choose another port with --port.",
    );
  }
  const { hostname, port } = server;
  const host = hostname.includes(":") ? `[${hostname}]` : hostname;
  logger.info(`lorapar ${deps.version} listens on http://${host}:${port} (docs: /docs)`);
  logger.info(`Jobs, uploads and adapters are kept in ${config.data}`);
  resumeQueue();
  onStop(() => {
    logger.info(
      "Stopping: the running job is marked interrupted, others stay queued. Again to stop at once.",
    );
    shutdown.abort();
    const closing = Promise.all([server.shutdown(), close(deps)]);
    const late = new Promise((done) => setTimeout(done, graceMs));
    Promise.race([closing, late]).finally(() => Deno.exit(0));
  });
  // The stop above ends the process once everything is closed.
  return await new Promise<number>(() => {});
}
