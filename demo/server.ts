// The real server inside this process, on a free port of 127.0.0.1, for the demo's own use.

import { close, open } from "../commands/program.ts";
import { serverConfig } from "../lib/jobs/config.ts";
import { createApp } from "../routes/app.ts";
import { listen } from "../routes/listen.ts";

export interface RunningServer {
  origin: string;
  close(): Promise<void>;
}

/** Starts it with its store in `dataFolder` and the embedded models only. */
export async function startServer(dataFolder: string): Promise<RunningServer> {
  const shutdown = new AbortController();
  const deps = open(serverConfig.parse({ port: 0, data: dataFolder }), shutdown.signal);
  const server = await listen(createApp(deps).fetch, deps.config);
  return {
    origin: `http://${server.hostname}:${server.port}`,
    async close() {
      shutdown.abort();
      await Promise.all([server.shutdown(), close(deps)]);
    },
  };
}
