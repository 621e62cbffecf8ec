// POST /v1/classify: System 1 or System 2, by several models' votes.

import { planClassify } from "../lib/jobs/plan.ts";
import { classifySettings } from "../lib/par/settings.ts";
import type { AppDeps } from "./deps.ts";
import { answerJob, jobResponses, preferHeader } from "./job_answer.ts";
import { exampleIds, jsonBody, newRouter, route } from "./schemas.ts";

const classifyRoute = route({
  method: "post",
  path: "/v1/classify",
  operationId: "classify",
  tags: ["method"],
  summary: "Label samples as System 1 or System 2 by several models' votes",
  request: {
    headers: preferHeader,
    body: jsonBody(classifySettings, {
      file: exampleIds.file,
      target_model: "lorapar-tiny",
      teachers: [
        { name: "a", model: "lorapar-teacher-a" },
        { name: "b", model: "lorapar-teacher-b" },
        { name: "c", model: "qwen2.5:7b", base_url: "http://127.0.0.1:11434/v1" },
      ],
    }),
  },
  responses: jobResponses,
});

export function classifyRoutes(deps: AppDeps) {
  return newRouter().openapi(
    classifyRoute,
    async (c) => await answerJob(c, deps, await planClassify(deps, c.req.valid("json"))),
  );
}
