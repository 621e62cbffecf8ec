// POST /v1/evaluate: a model's answers to a file, graded.

import { planEvaluate } from "../lib/jobs/plan.ts";
import { evaluateSettings } from "../lib/train/settings.ts";
import type { AppDeps } from "./deps.ts";
import { answerJob, jobResponses, preferHeader } from "./job_answer.ts";
import { exampleIds, jsonBody, newRouter, route } from "./schemas.ts";

const evaluateRoute = route({
  method: "post",
  path: "/v1/evaluate",
  operationId: "evaluate",
  tags: ["method"],
  summary: "Let a model answer a file and grade its answers",
  request: {
    headers: preferHeader,
    body: jsonBody(evaluateSettings, {
      model: "lorapar-tiny:first",
      file: exampleIds.file,
      grader: { type: "math_answer" },
      max_tokens: 48,
    }),
  },
  responses: jobResponses,
});

export function evaluateRoutes(deps: AppDeps) {
  return newRouter().openapi(
    evaluateRoute,
    async (c) => await answerJob(c, deps, await planEvaluate(deps, c.req.valid("json"))),
  );
}
