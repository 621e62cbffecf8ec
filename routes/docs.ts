// /openapi.json, generated from the zod schemas of the routes, and /docs, which shows it.
// Scalar's script comes from its CDN in a fixed version; without a network the JSON is what there is.

import type { OpenAPIHono } from "@hono/zod-openapi";
import { Scalar } from "@scalar/hono-api-reference";

/** Adds both documents to the app whose routes they describe. */
export function addDocs(app: OpenAPIHono, version: string): void {
  app.doc31("/openapi.json", {
    openapi: "3.1.0",
    info: {
      title: "lorapar",
      version,
      description: "LoRA-PAR: classify samples by two systems, partition LoRA elements by their " +
        "importance, train in two phases, hand out an adapter.",
    },
    servers: [{ url: "/" }],
    security: [{}, { bearer: [] }],
    tags: [
      { name: "method", description: "Classify, partition, train, evaluate: each starts a job." },
      { name: "jobs" },
      { name: "files" },
      { name: "partitions" },
      { name: "adapters" },
      { name: "openai", description: "For clients that exist." },
      { name: "health" },
    ],
  });
  app.openAPIRegistry.registerComponent("securitySchemes", "bearer", {
    type: "http",
    scheme: "bearer",
    description: "LORAPAR_API_KEY, where the server has one.",
  });
  app.get(
    "/docs",
    Scalar({
      url: "/openapi.json",
      pageTitle: "lorapar",
      cdn: "https://cdn.jsdelivr.net/npm/@scalar/api-reference@1.72.1/dist/esm.js",
    }),
  );
}
