// POST /v1/train: phases of SFT and GRPO over a partition; with dry_run=true its plan instead.

import { z } from "@hono/zod-openapi";
import { planTrain } from "../lib/jobs/plan.ts";
import { planOfTraining } from "../lib/jobs/short_tasks.ts";
import { trainSettings } from "../lib/train/settings.ts";
import type { AppDeps } from "./deps.ts";
import { answerJob, jobResponses, preferHeader } from "./job_answer.ts";
import { exampleIds, jobSchema, jsonBody, newRouter, route } from "./schemas.ts";

const bytes = z.number();

const planSchema = z.object({
  elements: z.object({
    total: z.number(),
    active: z.array(z.object({ kind: z.string(), elements: z.number() })),
  }),
  memory: z.object({
    weights: bytes,
    activations: bytes,
    kv_cache: bytes,
    optimizer: bytes,
    total: bytes,
    available: bytes.nullable(),
  }),
  fits: z.boolean(),
  phases: z.array(z.object({ kind: z.string(), samples: z.number(), steps: z.number() })),
  estimated_seconds: z.number().nullable(),
}).openapi("TrainPlan");

const trainRoute = route({
  method: "post",
  path: "/v1/train",
  operationId: "train",
  tags: ["method"],
  summary: "Train an adapter in phases",
  request: {
    headers: preferHeader,
    query: z.object({
      dry_run: z.enum(["true", "false"]).default("false").describe(
        "Answer what the training would take instead of starting it.",
      ),
    }),
    body: jsonBody(trainSettings, {
      model: "lorapar-tiny",
      file: exampleIds.file,
      suffix: "first",
      partition: { theta: 0.9 },
      phases: [
        { kind: "sft", learning_rate: 1e-3, gradient_accumulation_steps: 16 },
        { kind: "grpo", learning_rate: 3e-4, max_steps: 5, max_completion_length: 48 },
      ],
    }),
  },
  responses: {
    202: jobResponses[202],
    200: {
      description: "The ended job (`Prefer: wait`), or the plan (`dry_run=true`).",
      content: { "application/json": { schema: z.union([jobSchema, planSchema]) } },
    },
  },
});

export function trainRoutes(deps: AppDeps) {
  return newRouter().openapi(trainRoute, async (c) => {
    const body = c.req.valid("json");
    if (c.req.valid("query").dry_run === "true") {
      return c.json(await planOfTraining(deps, body, c.req.raw.signal), 200);
    }
    return await answerJob(c, deps, await planTrain(deps, body));
  });
}
