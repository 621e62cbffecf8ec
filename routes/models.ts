// /v1/models: bases found in the models folder, the embedded ones, and trained models.

import { z } from "@hono/zod-openapi";
import type { KnownModel } from "../lib/jobs/models.ts";
import type { AppDeps } from "./deps.ts";
import { idParam, json, listObject, listSchema, newRouter, route } from "./schemas.ts";

const modelSchema = z.object({
  id: z.string(),
  object: z.literal("model"),
  created: z.number().int(),
  owned_by: z.string(),
  kind: z.enum(["base", "trained"]),
}).openapi("Model");

function modelObject(model: KnownModel): z.infer<typeof modelSchema> {
  const { id, created, owner, kind } = model;
  return { id, object: "model", created, owned_by: owner, kind };
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
      const model = await models.get(c.req.valid("param").id, "id");
      const details = await engine.run(
        { kind: "describe_model", model: model.reference },
        undefined,
        c.req.raw.signal,
      );
      return c.json({ ...modelObject(model), details }, 200);
    });
}
