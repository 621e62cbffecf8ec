// POST /v1/partition and /v1/partitions: which LoRA elements matter for which system.

import { z } from "@hono/zod-openapi";
import { isId } from "../lib/jobs/ids.ts";
import { planPartition } from "../lib/jobs/plan.ts";
import type { PartitionRow } from "../lib/jobs/rows.ts";
import { regions, scatterPoints } from "../lib/jobs/scatter.ts";
import { rethreshold } from "../lib/jobs/short_tasks.ts";
import { partitionSettings, rethresholdSettings } from "../lib/par/settings.ts";
import type { AppDeps } from "./deps.ts";
import { downloadFile } from "./download.ts";
import { refuseMissing } from "./errors.ts";
import { answerJob, jobResponses, preferHeader } from "./job_answer.ts";
import {
  deletedSchema,
  exampleIds,
  idParam,
  json,
  jsonBody,
  listObject,
  listSchema,
  newRouter,
  pageQuery,
  route,
} from "./schemas.ts";

/** What is sure of every partition; the report adds counts, fractions, thresholds and by_tensor. */
const partitionSchema = z.looseObject({
  id: z.string(),
  object: z.literal("partition"),
  created_at: z.number().int(),
  /** The job that made it; null for a rethresholded one, which names its source. */
  job: z.string().nullable(),
  source: z.string().nullable(),
  model: z.string(),
}).openapi("Partition");

function partitionObject(row: PartitionRow): z.infer<typeof partitionSchema> {
  return {
    ...row.report,
    id: row.id,
    object: "partition",
    created_at: row.created_at,
    job: row.job_id,
    source: row.source_id,
    model: row.model,
  };
}

/** In a list the table of tensors, which may be long, is left out. */
function listedObject(row: PartitionRow): z.infer<typeof partitionSchema> {
  const { by_tensor: _, ...whole } = partitionObject(row);
  return whole as z.infer<typeof partitionSchema>;
}

const makeRoute = route({
  method: "post",
  path: "/v1/partition",
  operationId: "partition",
  tags: ["method"],
  summary: "Split LoRA elements by their importance for each system",
  request: {
    headers: preferHeader,
    body: jsonBody(partitionSettings, {
      model: "lorapar-tiny",
      file: exampleIds.file,
      lora: { r: 8, lora_alpha: 64, init: "gaussian" },
      theta: 0.9,
    }),
  },
  responses: jobResponses,
});

const listRoute = route({
  method: "get",
  path: "/v1/partitions",
  operationId: "listPartitions",
  tags: ["partitions"],
  summary: "List partitions",
  request: { query: pageQuery() },
  responses: { 200: json(listSchema(partitionSchema), "A page of partitions.") },
});

const getRoute = route({
  method: "get",
  path: "/v1/partitions/{id}",
  operationId: "retrievePartition",
  tags: ["partitions"],
  summary: "Retrieve a partition's counts, thresholds and tensors",
  request: { params: idParam },
  responses: { 200: json(partitionSchema, "The partition.") },
});

const rethresholdRoute = route({
  method: "post",
  path: "/v1/partitions/{id}/rethreshold",
  operationId: "rethresholdPartition",
  tags: ["partitions"],
  summary: "A new partition from the stored importance",
  request: {
    params: idParam,
    body: jsonBody(rethresholdSettings.strict(), { theta: 0.95, alpha: 1, beta: 0.5 }),
  },
  responses: { 200: json(partitionSchema, "The new partition.") },
});

const downloadRoute = route({
  method: "get",
  path: "/v1/partitions/{id}/download",
  operationId: "downloadPartition",
  tags: ["partitions"],
  summary: "Importance, starting values and regions as safetensors",
  request: { params: idParam },
  responses: {
    200: {
      description: "The safetensors file.",
      content: { "application/octet-stream": { schema: { type: "string", format: "binary" } } },
    },
  },
});

const deleteRoute = route({
  method: "delete",
  path: "/v1/partitions/{id}",
  operationId: "deletePartition",
  tags: ["partitions"],
  summary: "Delete a partition and its importance",
  description:
    "What was made from it stays: the `partition` of adapters and the `source` of other " +
    "partitions that named it are null from then on. While a job that waits or runs needs it, the answer " +
    "is 409.",
  request: { params: idParam },
  responses: { 200: json(deletedSchema, "It is gone.") },
});

const scatterSchema = z.object({
  object: z.literal("partition.scatter"),
  partition: z.string(),
  elements: z.number().int(),
  points: z.array(z.object({
    system1: z.number(),
    system2: z.number(),
    region: z.enum(regions),
  })),
});

export function partitionsRoutes(deps: AppDeps) {
  const { store, queue, config } = deps;
  const find = (id: string) =>
    (isId("part", id) && store.partition(id)) || refuseMissing("partition", id);
  const scatterRoute = route({
    method: "get",
    path: "/v1/partitions/{id}/scatter",
    operationId: "scatterPartition",
    tags: ["partitions"],
    summary: "Points for the paper's figure: importance for System 1 against System 2",
    request: {
      params: idParam,
      query: z.object({
        points: z.coerce.number().int().min(1).max(config.limits.max_scatter_points).default(2000)
          .describe("Elements to show, at even distances over all tensors."),
      }),
    },
    responses: { 200: json(scatterSchema, "Elements at even distances over all tensors.") },
  });
  return newRouter()
    .openapi(
      makeRoute,
      async (c) => await answerJob(c, deps, await planPartition(deps, c.req.valid("json"))),
    )
    .openapi(
      listRoute,
      (c) => c.json(listObject(store.partitions(c.req.valid("query")), listedObject), 200),
    )
    .openapi(getRoute, (c) => c.json(partitionObject(find(c.req.valid("param").id)), 200))
    .openapi(rethresholdRoute, async (c) => {
      const source = find(c.req.valid("param").id);
      const row = await rethreshold(deps, source, c.req.valid("json"), c.req.raw.signal);
      return c.json(partitionObject(row), 200);
    })
    .openapi(downloadRoute, async (c) => {
      const row = find(c.req.valid("param").id);
      const path = `${store.resolve(row.folder)}/partition.safetensors`;
      return await downloadFile(c, path, {
        "content-type": "application/octet-stream",
        "content-disposition": `attachment; filename="${row.id}.safetensors"`,
      });
    })
    .openapi(deleteRoute, async (c) => {
      const row = find(c.req.valid("param").id);
      queue.refuseInUse(row.id);
      await store.removePartition(row);
      return c.json({ id: row.id, object: "partition", deleted: true as const }, 200);
    })
    .openapi(scatterRoute, async (c) => {
      const row = find(c.req.valid("param").id);
      const { points, elements } = await scatterPoints(
        store.resolve(row.folder),
        c.req.valid("query").points,
      );
      return c.json(
        { object: "partition.scatter" as const, partition: row.id, elements, points },
        200,
      );
    });
}
