// POST /v1/classify: System 1 or System 2, by several models' votes.

import { planClassify } from "../lib/jobs/plan.ts";
import { classifySettings } from "../lib/par/settings.ts";
import type { AppDeps } from "./deps.ts";
import { answerJob, jobResponses, preferHeader } from "./job_answer.ts";
import { jsonBody, newRouter, route } from "./schemas.ts";

const classifyRoute = route({
  method: "post",
  path: "/v1/classify",
  operationId: "classify",
  tags: ["method"],
  summary: "Label samples as System 1 or System 2 by several models' votes",
  request: { headers: preferHeader, body: jsonBody(classifySettings) },
  responses: jobResponses,
});

export function classifyRoutes(deps: AppDeps) {
  return newRouter().openapi(
    classifyRoute,
    async (c) => await answerJob(c, deps, await planClassify(deps, c.req.valid("json"))),
  );
}
