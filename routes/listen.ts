// The server's socket. Deno.serve waits for ever for a request that is half sent, and ends the process
// when descriptors run out; node:http has a deadline for heads, and shows each connection. So it
// listens here, through Hono's adapter. But once node:http could not accept a connection for want of a
// descriptor, it hears no other (Deno 2.9). So where no connection comes for a while the server knocks
// at its own door, and listens anew when it did not hear that.

import { getRequestListener } from "@hono/node-server";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as pause } from "node:timers/promises";
import { getLogger } from "@logtape/logtape";
import { InvalidRequest } from "../lib/errors.ts";
import type { ServerConfig } from "../lib/jobs/config.ts";
import { connectionLimit } from "./connection_limit.ts";
import { Connections } from "./connections.ts";
import { errorBody } from "./errors.ts";

const logger = getLogger(["lorapar", "http"]);

export interface Listening {
  hostname: string;
  port: number;
  /** Takes no more requests; resolves when those under way are answered. */
  shutdown(): Promise<void>;
}

/** How often node:http looks for heads that are late. */
const checkIntervalMs = 1000;
/** Longer than clients keep a connection for, so that none is closed under a new request. */
const keepAliveMs = 75_000;
/** How long no connection comes before the server knocks, and how long it listens for that. */
const knockAfterMs = 2000;
const hearWithinMs = 500;

function refuse(error: unknown): Response {
  if ((error as Error).name === "RequestError") {
    const malformed = "Cannot read the request: its address or its Host header is malformed.";
    return Response.json(errorBody(new InvalidRequest(malformed)), { status: 400 });
  }
  logger.error("A request failed: {error}", { error });
  return Response.json(errorBody(error), { status: 500 });
}

/** Serves `fetch` at an address. @throws {Error} when it cannot be had (code EADDRINUSE …). */
export async function listen(
  fetch: (request: Request) => Response | Promise<Response>,
  { host, port, limits }: ServerConfig,
): Promise<Listening> {
  const connections = new Connections(
    connectionLimit(limits.max_connections),
    limits.connection_timeout_seconds * 1000,
  );
  const answer = getRequestListener(fetch, { overrideGlobalObjects: false, errorHandler: refuse });
  const closing = new AbortController();
  let hasHeard = false;

  async function open(port: number): Promise<Server> {
    const server = createServer({
      headersTimeout: limits.head_timeout_seconds * 1000,
      // A body may take long; what counts is that it does not stall (body.ts).
      requestTimeout: 0,
      keepAliveTimeout: keepAliveMs,
      connectionsCheckingInterval: checkIntervalMs,
    }, (request, response) => {
      if (connections.begin(request, response)) answer(request, response);
    });
    server.on("connection", () => hasHeard = true);
    connections.watch(server);
    const ready = Promise.withResolvers<void>();
    server.once("error", ready.reject);
    server.listen(port, host, ready.resolve);
    await ready.promise;
    server.on("error", (error) => logger.error("The server's socket failed: {error}", { error }));
    return server;
  }

  let server = await open(port);
  const address = server.address() as AddressInfo;
  const door = {
    hostname: address.address.replace(/^0\.0\.0\.0$/, "127.0.0.1").replace(/^::$/, "::1"),
    port: address.port,
  };

  /** Whether a connection to this very server is noticed, or cannot be tried. */
  async function hearsKnock(): Promise<boolean> {
    try {
      using _ = await Deno.connect(door);
      // Between two timers the event loop looks at its sockets, however busy it was.
      for (let i = 0; i < 2; i++) {
        await pause(hearWithinMs / 2, undefined, { signal: closing.signal });
      }
      return hasHeard;
    } catch (error) {
      const { code } = error as { code?: string };
      if (code !== "EMFILE" && code !== "ENFILE") return code !== "ECONNREFUSED";
      connections.endWaiting();
      return false;
    }
  }

  async function listenAnew(): Promise<void> {
    logger.warn("The server heard no connection and listens anew: file descriptors had run out.");
    server.close();
    server = await open(address.port);
  }

  async function watch(): Promise<void> {
    try {
      if (!hasHeard && !await hearsKnock()) await listenAnew();
    } catch (error) {
      logger.warn("The server cannot listen anew yet: {error}", { error });
    }
    hasHeard = false;
    if (closing.signal.aborted) server.close();
    else timer = setTimeout(watch, knockAfterMs);
  }
  let timer = setTimeout(watch, knockAfterMs);

  return {
    hostname: address.address,
    port: address.port,
    shutdown() {
      closing.abort();
      clearTimeout(timer);
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      connections.close();
      return closed;
    },
  };
}
