// Who may talk to the server: the Host header must name this server (a page of another site that
// rebinds its name to 127.0.0.1 is refused), the Origin must be ours or allowed by name, and the API
// key must be right where one is set.

import { createHash, timingSafeEqual } from "node:crypto";
import type { MiddlewareHandler } from "hono";
import { cors } from "hono/cors";
import { InvalidRequest } from "../lib/errors.ts";
import { isLoopback, type ServerConfig } from "../lib/jobs/config.ts";

/** Answered without a key: probes, and documents that hold no secret. */
const openPaths = new Set([
  "/",
  "/livez",
  "/readyz",
  "/openapi.json",
  "/docs",
  "/docs/scalar.js",
  "/docs/start.js",
]);

function isAddress(name: string): boolean {
  return /^\d{1,3}(\.\d{1,3}){3}$/.test(name) || name.startsWith("[");
}

/** Host names are compared without port. */
function hostIsOurs(name: string, config: ServerConfig): boolean {
  if (isLoopback(name) || name === config.host || config.allowed_hosts.includes(name)) return true;
  // Bound beyond this machine, it is reached by its address too; an address cannot be rebound.
  return !isLoopback(config.host) && isAddress(name);
}

function parseHost(host: string): URL | null {
  return URL.parse(`http://${host}`);
}

/** Refuses foreign Host and Origin headers with 403. */
export function checkHost(config: ServerConfig): MiddlewareHandler {
  return async (c, next) => {
    const host = c.req.header("host") ?? new URL(c.req.url).host;
    const url = parseHost(host);
    if (!url || !hostIsOurs(url.hostname, config)) {
      throw new InvalidRequest(
        `Cannot answer for the host "${host}": it is not this server's name. ` +
          "Use 127.0.0.1, or add the name to allowed_hosts in the config file.",
        null,
        "host_not_allowed",
      );
    }
    const origin = c.req.header("origin");
    const isOurs = origin === undefined || URL.parse(origin)?.host === url.host ||
      config.allowed_origins.includes(origin);
    if (!isOurs) {
      throw new InvalidRequest(
        `Cannot answer pages of "${origin}". Add the origin to allowed_origins in the config file.`,
        null,
        "origin_not_allowed",
      );
    }
    await next();
  };
}

/** CORS for the origins allowed by name; nothing when there are none. */
export function allowOrigins(config: ServerConfig): MiddlewareHandler {
  return cors({
    origin: (origin) => config.allowed_origins.includes(origin) ? origin : null,
    exposeHeaders: ["x-request-id", "location"],
  });
}

function digest(text: string): Uint8Array {
  return createHash("sha256").update(text).digest();
}

/** Asks for `Authorization: Bearer <key>`, when the server has a key. */
export function checkKey(config: ServerConfig): MiddlewareHandler {
  const wanted = config.api_key === null ? null : digest(config.api_key);
  return async (c, next) => {
    if (wanted && !openPaths.has(c.req.path)) {
      // The scheme's case does not matter (RFC 9110, section 11.1).
      const given = /^bearer +(.*)$/i.exec(c.req.header("authorization") ?? "")?.[1];
      if (given === undefined || !timingSafeEqual(digest(given), wanted)) {
        throw new InvalidRequest(
          'Cannot accept the API key: send "Authorization: Bearer KEY" with LORAPAR_API_KEY\'s value.',
          null,
          "invalid_api_key",
        );
      }
    }
    await next();
  };
}
