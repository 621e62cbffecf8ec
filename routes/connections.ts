// The connections of the server: what each is doing, and which must go. Past their limit the oldest one
// that has no whole request makes room, so that a flood of half-sent requests shuts nobody out; where
// all are being answered, a new one is told to come again. A client that reads nothing of its answer is
// left.

import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { InvalidRequest } from "../lib/errors.ts";
import { errorBody } from "./errors.ts";

/** What goes on on a connection. */
interface Activity {
  /** Requests whose head has come and whose answer has not ended. */
  requests: number;
  /** Whether the body of one of them is still to come. */
  isReceiving: boolean;
}

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

export class Connections {
  /** In the order they came. */
  readonly #activities = new Map<Socket, Activity>();
  readonly #turnedAway = new Set<Socket>();
  #isClosing = false;

  /** At most `max` connections, and none whose answer lies unread for `silenceMs`. */
  constructor(readonly max: number, readonly silenceMs: number) {}

  /** Looks after the connections of a server. */
  watch(server: Server): void {
    server.on("connection", (socket: Socket) => this.#add(socket));
    server.setTimeout(this.silenceMs);
    server.on("timeout", (socket: Socket) => {
      // An event stream may be silent for long; a client that does not read its answer may not.
      const isQuietAnswer = this.#activities.get(socket)?.requests && socket.writableLength === 0;
      if (isQuietAnswer) socket.setTimeout(this.silenceMs);
      else socket.destroy();
    });
  }

  #add(socket: Socket): void {
    if (this.#activities.size >= this.max) {
      const [longest] = this.#waiting();
      if (!longest) return this.#turnAway(socket);
      this.#activities.delete(longest);
      longest.destroy();
    }
    this.#activities.set(socket, { requests: 0, isReceiving: false });
    socket.once("close", () => this.#activities.delete(socket));
  }

  /** Connections without a whole request, those that have waited longest first. */
  #waiting(): Socket[] {
    return [...this.#activities]
      .filter(([, { requests, isReceiving }]) => requests === 0 || isReceiving)
      .map(([socket]) => socket);
  }

  #turnAway(socket: Socket): void {
    if (this.#turnedAway.size === maxTurnedAway) return void socket.destroy();
    this.#turnedAway.add(socket);
    const timer = setTimeout(() => socket.destroy(), turnAwayMs);
    socket.once("close", () => {
      clearTimeout(timer);
      this.#turnedAway.delete(socket);
    });
    socket.end(fullAnswer());
  }

  /** Follows a request to the end of its answer; false on a connection that was told to come again. */
  begin(request: IncomingMessage, response: ServerResponse): boolean {
    const activity = this.#activities.get(request.socket);
    if (!activity) return false;
    activity.requests++;
    activity.isReceiving = "transfer-encoding" in request.headers ||
      Number(request.headers["content-length"] ?? 0) > 0;
    request.once("end", () => activity.isReceiving = false);
    response.once("close", () => {
      activity.requests--;
      activity.isReceiving = false;
      if (this.#isClosing && activity.requests === 0) request.socket.end();
    });
    return true;
  }

  /** Ends those without a whole request, for whoever needs their descriptors. */
  endWaiting(): void {
    for (const socket of this.#waiting()) socket.destroy();
  }

  /** Ends those that are not being answered, and the others after their answer. */
  close(): void {
    this.#isClosing = true;
    for (const socket of this.#turnedAway) socket.destroy();
    for (const [socket, { requests }] of this.#activities) if (requests === 0) socket.destroy();
  }
}
