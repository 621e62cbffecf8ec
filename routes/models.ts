// /v1/models: bases found in the models folder, the embedded ones, and trained models.

import { z } from "@hono/zod-openapi";
import type { ListedModel } from "../lib/jobs/models.ts";
import type { AppDeps } from "./deps.ts";
import { idParam, json, listObject, listSchema, newRouter, route } from "./schemas.ts";

const modelSchema = z.object({
  id: z.string(),
  object: z.literal("model"),
  created: z.number().int(),
  owned_by: z.string(),
  kind: z.enum(["base", "trained"]),
  usable: z.boolean().describe("Whether jobs and chats can use it."),
  reason: z.string().nullable().describe("Why it cannot be used; null when it can."),
}).openapi("Model");

function modelObject(model: ListedModel): z.infer<typeof modelSchema> {
  const { id, created, owner, kind, problem } = model;
  const usable = problem === null;
  return { id, object: "model", created, owned_by: owner, kind, usable, reason: problem };
}

const listRoute = route({
  method: "get",
  path: "/v1/models",
  operationId: "listModels",
  tags: ["openai"],
  summary: "List models",
  responses: { 200: json(listSchema(modelSchema), "Every model.") },
});

const getRoute = route({
  method: "get",
  path: "/v1/models/{id}",
  operationId: "retrieveModel",
  tags: ["openai"],
  summary: "Retrieve a model, with its sizes",
  description: "`details` is empty for a model that cannot be used.",
  request: { params: idParam },
  responses: {
    200: json(modelSchema.extend({ details: z.record(z.string(), z.unknown()) }), "The model."),
  },
});

export function modelsRoutes({ models, engine }: AppDeps) {
  return newRouter()
    .openapi(
      listRoute,
      async (c) =>
        c.json(listObject({ data: await models.list(), has_more: false }, modelObject), 200),
    )
    .openapi(getRoute, async (c) => {
      const model = await models.find(c.req.valid("param").id, "id");
      const problem = await models.problemOf(model);
      if (problem !== null) {
        return c.json({ ...modelObject({ ...model, problem }), details: {} }, 200);
      }
      const details = await engine.run(
        { kind: "describe_model", model: model.reference },
        undefined,
        c.req.raw.signal,
      );
      return c.json({ ...modelObject({ ...model, problem }), details }, 200);
    });
}
