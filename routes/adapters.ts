// /v1/adapters: what trainings made, as PEFT folders to take away.

import { z } from "@hono/zod-openapi";
import { isId } from "../lib/jobs/ids.ts";
import type { AdapterRow } from "../lib/jobs/rows.ts";
import { tarStream } from "../lib/lora/tar.ts";
import type { AppDeps } from "./deps.ts";
import { download } from "./download.ts";
import { refuseMissing } from "./errors.ts";
import {
  deletedSchema,
  idParam,
  json,
  listObject,
  listSchema,
  newRouter,
  pageQuery,
  route,
} from "./schemas.ts";

const adapterSchema = z.object({
  id: z.string(),
  object: z.literal("adapter"),
  created_at: z.number().int(),
  base_model: z.string(),
  /** The name to chat with and to evaluate. */
  model: z.string(),
  job: z.string().nullable(),
  partition: z.string().nullable(),
  phases: z.array(z.object({
    kind: z.enum(["sft", "grpo"]),
    steps: z.number(),
    tokens: z.number(),
    active_elements: z.number(),
    metrics: z.record(z.string(), z.number()),
    seconds: z.number(),
  })),
}).openapi("Adapter");

function adapterObject(row: AdapterRow): z.infer<typeof adapterSchema> {
  return {
    id: row.id,
    object: "adapter",
    created_at: row.created_at,
    base_model: row.base,
    model: row.model,
    job: row.job_id,
    partition: row.partition_id,
    phases: row.phases,
  };
}

const listRoute = route({
  method: "get",
  path: "/v1/adapters",
  operationId: "listAdapters",
  tags: ["adapters"],
  summary: "List adapters",
  request: { query: pageQuery() },
  responses: { 200: json(listSchema(adapterSchema), "A page of adapters.") },
});

const getRoute = route({
  method: "get",
  path: "/v1/adapters/{id}",
  operationId: "retrieveAdapter",
  tags: ["adapters"],
  summary: "Retrieve an adapter",
  request: { params: idParam },
  responses: { 200: json(adapterSchema, "The adapter.") },
});

const downloadRoute = route({
  method: "get",
  path: "/v1/adapters/{id}/download",
  operationId: "downloadAdapter",
  tags: ["adapters"],
  summary: "Download an adapter: format=peft is a tar of a PEFT folder",
  request: {
    params: idParam,
    query: z.object({
      format: z.enum(["peft"]).default("peft").describe(
        "peft: a tar of what PEFT's from_pretrained reads.",
      ),
    }),
  },
  responses: {
    200: {
      description: "A tar of adapter_config.json and adapter_model.safetensors.",
      content: { "application/x-tar": { schema: { type: "string", format: "binary" } } },
    },
  },
});

const deleteRoute = route({
  method: "delete",
  path: "/v1/adapters/{id}",
  operationId: "deleteAdapter",
  tags: ["adapters"],
  summary: "Delete an adapter and its model's name",
  request: { params: idParam },
  responses: { 200: json(deletedSchema, "It is gone.") },
});

export function adaptersRoutes(deps: AppDeps) {
  const { store, queue } = deps;
  const find = (id: string) =>
    (isId("adapter", id) && store.adapter(id)) || refuseMissing("adapter", id);
  return newRouter()
    .openapi(
      listRoute,
      (c) => c.json(listObject(store.adapters(c.req.valid("query")), adapterObject), 200),
    )
    .openapi(getRoute, (c) => c.json(adapterObject(find(c.req.valid("param").id)), 200))
    .openapi(downloadRoute, async (c) => {
      const row = find(c.req.valid("param").id);
      const headers = {
        "content-type": "application/x-tar",
        "content-disposition": `attachment; filename="${row.id}.tar"`,
      };
      return await download(c, headers, async () => {
        const folder = store.resolve(row.folder);
        const names = (await Array.fromAsync(Deno.readDir(folder)))
          .filter((entry) => entry.isFile).map((entry) => entry.name).sort();
        const files = names.map((name) => ({ name, path: `${folder}/${name}` }));
        return tarStream(files, { mtimeSeconds: row.created_at });
      });
    })
    .openapi(deleteRoute, async (c) => {
      const row = find(c.req.valid("param").id);
      queue.refuseInUse(row.id);
      await store.removeAdapter(row);
      return c.json({ id: row.id, object: "adapter", deleted: true as const }, 200);
    });
}
