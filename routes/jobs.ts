// /v1/jobs: what was asked, how far it is, what came of it; cancel, delete. Pause and resume answer 409
// until training can be resumed exactly.

import { z } from "@hono/zod-openapi";
import { InvalidRequest } from "../lib/errors.ts";
import { isId } from "../lib/jobs/ids.ts";
import { hasEnded } from "../lib/jobs/queue.ts";
import { jobKinds, jobStatuses } from "../lib/jobs/rows.ts";
import type { AppDeps } from "./deps.ts";
import { refuseMissing } from "./errors.ts";
import {
  deletedSchema,
  idParam,
  jobObject,
  jobSchema,
  json,
  listObject,
  listSchema,
  newRouter,
  pageQuery,
  route,
} from "./schemas.ts";

/** The job of a path. @throws {InvalidRequest} 404. */
export function findJob({ store }: AppDeps, id: string) {
  return (isId("job", id) && store.job(id)) || refuseMissing("job", id);
}

const listRoute = route({
  method: "get",
  path: "/v1/jobs",
  operationId: "listJobs",
  tags: ["jobs"],
  summary: "List jobs",
  request: {
    query: pageQuery().extend({
      kind: z.enum(jobKinds).optional().describe("Only jobs of this kind."),
      status: z.enum(jobStatuses).optional().describe("Only jobs in this state."),
    }),
  },
  responses: { 200: json(listSchema(jobSchema), "A page of jobs.") },
});

const getRoute = route({
  method: "get",
  path: "/v1/jobs/{id}",
  operationId: "retrieveJob",
  tags: ["jobs"],
  summary: "Retrieve a job",
  request: { params: idParam },
  responses: { 200: json(jobSchema, "The job.") },
});

const cancelRoute = route({
  method: "post",
  path: "/v1/jobs/{id}/cancel",
  operationId: "cancelJob",
  tags: ["jobs"],
  summary: "Cancel a job: at once while it waits, at its next step while it runs",
  request: { params: idParam },
  responses: { 200: json(jobSchema, "The job.") },
});

const deleteRoute = route({
  method: "delete",
  path: "/v1/jobs/{id}",
  operationId: "deleteJob",
  tags: ["jobs"],
  summary: "Delete a job that has ended, with its events, metrics and samples",
  description:
    "Files, partitions and adapters that the job made have ids of their own and stay; their " +
    "`job` is null from then on. A job that waits or runs is answered 409: cancel it first.",
  request: { params: idParam },
  responses: { 200: json(deletedSchema, "It is gone.") },
});

const stepRoute = (step: "pause" | "resume") =>
  route({
    method: "post",
    path: `/v1/jobs/{id}/${step}`,
    operationId: `${step}Job`,
    tags: ["jobs"],
    summary: `${step === "pause" ? "Pause" : "Resume"} a job (answers 409 in this version)`,
    request: { params: idParam },
    responses: { 200: json(jobSchema, "The job.") },
  });

const checkpointsRoute = route({
  method: "get",
  path: "/v1/jobs/{id}/checkpoints",
  operationId: "listJobCheckpoints",
  tags: ["jobs"],
  summary: "List a job's checkpoints (none in this version)",
  request: { params: idParam },
  responses: { 200: json(listSchema(z.object({ id: z.string() })), "An empty page.") },
});

export function jobsRoutes(deps: AppDeps) {
  const { store, queue } = deps;
  const refuseStep = (step: string, id: string): never => {
    const { status } = findJob(deps, id);
    throw new InvalidRequest(
      `Cannot ${step} ${id} (${status}): this version cannot ${step} jobs. ` +
        `Cancel it with POST /v1/jobs/${id}/cancel, or let it end.`,
      null,
      "conflict",
    );
  };
  return newRouter()
    .openapi(
      listRoute,
      (c) => c.json(listObject(store.jobs(c.req.valid("query")), jobObject), 200),
    )
    .openapi(getRoute, (c) => c.json(jobObject(findJob(deps, c.req.valid("param").id)), 200))
    .openapi(cancelRoute, (c) => {
      const job = findJob(deps, c.req.valid("param").id);
      return c.json(jobObject(queue.cancel(job)), 200);
    })
    .openapi(deleteRoute, async (c) => {
      const job = findJob(deps, c.req.valid("param").id);
      if (!hasEnded(job)) {
        throw new InvalidRequest(
          `Cannot delete ${job.id} (${job.status}): cancel it with POST /v1/jobs/${job.id}/cancel, ` +
            "and delete it when it has ended.",
          null,
          "conflict",
        );
      }
      await store.removeJob(job);
      return c.json({ id: job.id, object: "job", deleted: true as const }, 200);
    })
    .openapi(stepRoute("pause"), (c) => refuseStep("pause", c.req.valid("param").id))
    .openapi(stepRoute("resume"), (c) => refuseStep("resume", c.req.valid("param").id))
    .openapi(checkpointsRoute, (c) => {
      findJob(deps, c.req.valid("param").id);
      return c.json(
        listObject({ data: [] as { id: string }[], has_more: false }, (row) => row),
        200,
      );
    });
}
