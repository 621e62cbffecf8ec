// /livez: the process answers. /readyz: it takes work.

import { z } from "@hono/zod-openapi";
import { InvalidRequest } from "../lib/errors.ts";
import type { AppDeps } from "./deps.ts";
import { json, newRouter, route } from "./schemas.ts";

const healthSchema = z.object({ status: z.literal("ok"), version: z.string() });

const probe = (path: string, summary: string) =>
  route({
    method: "get",
    path,
    operationId: path.slice(1),
    tags: ["health"],
    summary,
    responses: { 200: json(healthSchema, "It is.") },
  });

export function healthRoutes({ store, queue, engine, version }: AppDeps) {
  return newRouter()
    .openapi(
      probe("/livez", "Whether the process answers"),
      (c) => c.json({ status: "ok" as const, version }, 200),
    )
    .openapi(probe("/readyz", "Whether the server takes work"), (c) => {
      if (queue.closing) {
        throw new InvalidRequest("Cannot take work: the server is stopping.", null, "unavailable");
      }
      const problem = engine.problem();
      if (problem !== null) {
        throw new InvalidRequest(`Cannot take work: ${problem}`, null, "unavailable");
      }
      store.jobs({ limit: 1, order: "desc" });
      return c.json({ status: "ok" as const, version }, 200);
    });
}
