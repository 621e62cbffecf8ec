// /openapi.json, generated from the zod schemas of the routes, and /docs, which shows it without
// loading anything from elsewhere: Scalar's script lies in docs/ (its README says where from).

import type { OpenAPIHono } from "@hono/zod-openapi";
import type { Context } from "hono";
import page from "./docs/page.html" with { type: "text" };

/** Nothing but this server's own files; Scalar sets styles from its script. */
const contentSecurityPolicy = "default-src 'none'; script-src 'self'; connect-src 'self'; " +
  "style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; " +
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

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
      { name: "jobs", description: "What long work is doing, did and answered." },
      { name: "files", description: "Uploads, and the files that jobs wrote." },
      { name: "partitions", description: "Which LoRA elements matter for which system." },
      { name: "adapters", description: "What trainings made." },
      { name: "openai", description: "Models and chat, for clients of OpenAI's interface." },
      { name: "health", description: "For whoever watches the server." },
    ],
  });
  app.openAPIRegistry.registerComponent("securitySchemes", "bearer", {
    type: "http",
    scheme: "bearer",
    description: "LORAPAR_API_KEY, where the server has one.",
  });
  app.get("/docs", (c) => c.html(page, 200, { "content-security-policy": contentSecurityPolicy }));
  app.get("/docs/start.js", (c) => script(c, "start.js", false));
  app.get("/docs/scalar.js", (c) => script(c, "scalar.js.gz", true));
}

/** A script of docs/; a compressed one is sent as it is to whoever takes gzip. */
async function script(c: Context, name: string, compressed: boolean): Promise<Response> {
  const bytes = await Deno.readFile(new URL(`./docs/${name}`, import.meta.url));
  const headers: Record<string, string> = {
    "content-type": "text/javascript; charset=utf-8",
    "cache-control": "no-cache",
    "vary": "accept-encoding",
    "x-content-type-options": "nosniff",
  };
  if (!compressed) return c.body(bytes, 200, headers);
  if (/\bgzip\b/.test(c.req.header("accept-encoding") ?? "")) {
    return c.body(bytes, 200, { ...headers, "content-encoding": "gzip" });
  }
  const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return c.body(plain, 200, headers);
}
