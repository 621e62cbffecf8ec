// The server's socket. Deno.serve waits for ever for a request that is half sent, and ends the process
// when descriptors run out; node:http has a deadline for heads, and shows each connection. So it
// listens here, through Hono's adapter, and counts connections: past their limit the oldest one that
// has no whole request makes room, so that a flood of half-sent requests shuts nobody out.

import { getRequestListener } from "@hono/node-server";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { getLogger } from "@logtape/logtape";
import { InvalidRequest } from "../lib/errors.ts";
import type { ServerConfig } from "../lib/jobs/config.ts";
import { connectionLimit } from "./connection_limit.ts";
import { errorBody } from "./errors.ts";

const logger = getLogger(["lorapar", "http"]);

export interface Listening {
  hostname: string;
  port: number;
  /** Takes no more requests; resolves when those under way are answered. */
  shutdown(): Promise<void>;
}

/** What goes on on a connection. */
interface Activity {
  /** Requests whose head has come and whose answer has not ended. */
  requests: number;
  /** Whether the body of one of them is still to come. */
  isReceiving: boolean;
}

/** How often node:http looks for heads that are late. */
const checkIntervalMs = 1000;
/** Longer than clients keep a connection for, so that none is closed under a new request. */
const keepAliveMs = 75_000;

/** Connections that are told why they are closed, at a time, and how long they may take to read it. */
const maxTurnedAway = 16;
const turnAwayMs = 1000;

function fullAnswer(): string {
  const body = JSON.stringify(errorBody(
    new InvalidRequest(
      "Cannot take another connection: all are being answered. Try again in a moment.",
      null,
      "unavailable",
    ),
  ));
  return "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 10\r\n" +
    `content-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`;
}

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
  const maxConnections = connectionLimit(limits.max_connections);
  const connections = new Map<Socket, Activity>();
  const turnedAway = new Set<Socket>();
  let isClosing = false;
  const answer = getRequestListener(fetch, { overrideGlobalObjects: false, errorHandler: refuse });
  const server = createServer({
    headersTimeout: limits.head_timeout_seconds * 1000,
    // A body may take long; what counts is that it does not stall (body.ts).
    requestTimeout: 0,
    keepAliveTimeout: keepAliveMs,
    connectionsCheckingInterval: checkIntervalMs,
  }, (request: IncomingMessage, response: ServerResponse) => {
    const activity = connections.get(request.socket);
    // One that was told to come again may send its request all the same.
    if (!activity) return;
    follow(activity, request, response);
    answer(request, response);
  });

  function follow(activity: Activity, request: IncomingMessage, response: ServerResponse): void {
    activity.requests++;
    activity.isReceiving = "transfer-encoding" in request.headers ||
      Number(request.headers["content-length"] ?? 0) > 0;
    request.once("end", () => activity.isReceiving = false);
    response.once("close", () => {
      activity.requests--;
      activity.isReceiving = false;
      if (isClosing && activity.requests === 0) request.socket.end();
    });
  }

  function turnAway(socket: Socket): void {
    if (turnedAway.size === maxTurnedAway) return void socket.destroy();
    turnedAway.add(socket);
    const timer = setTimeout(() => socket.destroy(), turnAwayMs);
    socket.once("close", () => {
      clearTimeout(timer);
      turnedAway.delete(socket);
    });
    socket.end(fullAnswer());
  }

  server.on("connection", (socket: Socket) => {
    if (connections.size >= maxConnections) {
      const isWaiting = ({ requests, isReceiving }: Activity) => requests === 0 || isReceiving;
      const longest = [...connections].find(([, activity]) => isWaiting(activity))?.[0];
      if (!longest) return turnAway(socket);
      connections.delete(longest);
      longest.destroy();
    }
    connections.set(socket, { requests: 0, isReceiving: false });
    socket.once("close", () => connections.delete(socket));
  });

  const silenceMs = limits.connection_timeout_seconds * 1000;
  server.setTimeout(silenceMs);
  server.on("timeout", (socket: Socket) => {
    // An event stream may be silent for long; a client that does not read its answer may not.
    const isQuietAnswer = connections.get(socket)?.requests && socket.writableLength === 0;
    if (isQuietAnswer) socket.setTimeout(silenceMs);
    else socket.destroy();
  });

  const ready = Promise.withResolvers<void>();
  server.once("error", ready.reject);
  server.listen(port, host, ready.resolve);
  await ready.promise;
  server.on("error", (error) => logger.error("The server's socket failed: {error}", { error }));
  const address = server.address() as AddressInfo;
  return {
    hostname: address.address,
    port: address.port,
    shutdown() {
      isClosing = true;
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of turnedAway) socket.destroy();
      for (const [socket, { requests }] of connections) if (requests === 0) socket.destroy();
      return closed;
    },
  };
}
