// The real server inside this process, on a free port of 127.0.0.1, for the demo's own use.

import { close, open } from "../commands/program.ts";
import { serverConfig } from "../lib/jobs/config.ts";
import { createApp } from "../routes/app.ts";

export interface RunningServer {
  origin: string;
  close(): Promise<void>;
}

/** Starts it with its store in `dataFolder` and the embedded models only. */
export function startServer(dataFolder: string): RunningServer {
  const shutdown = new AbortController();
  const deps = open(serverConfig.parse({ port: 0, data: dataFolder }), shutdown.signal);
  const { host: hostname, port } = deps.config;
  const server = Deno.serve({ hostname, port, onListen: () => {} }, createApp(deps).fetch);
  return {
    origin: `http://${hostname}:${server.addr.port}`,
    async close() {
      shutdown.abort();
      await Promise.all([server.shutdown(), close(deps)]);
    },
  };
}
