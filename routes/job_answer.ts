// How a request that becomes a job is answered: 202 with the job, or, with `Prefer: wait=SECONDS`
// (RFC 7240), 200 with the finished job when it ends in that time.

import { z } from "@hono/zod-openapi";
import type { Context } from "hono";
import { hasEnded } from "../lib/jobs/queue.ts";
import type { Plan } from "../lib/jobs/plan.ts";
import type { JobRow } from "../lib/jobs/rows.ts";
import type { AppDeps } from "./deps.ts";
import { jobObject, jobSchema, json } from "./schemas.ts";

export const preferHeader = z.object({
  prefer: z.string().optional().openapi({
    example: "wait=60",
    description: "wait=SECONDS answers the ended job where it ends in that time.",
  }),
});

export const jobResponses = {
  200: json(jobSchema, "The job has ended within the time of `Prefer: wait`."),
  202: json(jobSchema, "The job is queued or running."),
};

/** Seconds a client asks to wait, bounded by the limit; 0 without the header. */
function waitSeconds(header: string | undefined, maxSeconds: number): number {
  const match = /(?:^|[,;\s])wait\s*=\s*"?(\d+)"?/i.exec(header ?? "");
  return Math.min(Number(match?.[1] ?? 0), maxSeconds);
}

/** Submits a plan as a job and answers it. */
export async function answerJob(c: Context, deps: AppDeps, plan: Plan) {
  const { queue, config, shutdown } = deps;
  let job: JobRow;
  try {
    job = queue.submit(plan);
  } catch (error) {
    await plan.discard?.();
    throw error;
  }
  c.header("location", `/v1/jobs/${job.id}`);
  const seconds = waitSeconds(c.req.header("prefer"), config.limits.max_wait_seconds);
  if (seconds > 0) {
    c.header("preference-applied", `wait=${seconds}`);
    c.get("releaseBody")?.();
    job = await queue.wait(job.id, seconds, AbortSignal.any([c.req.raw.signal, shutdown]));
  }
  return hasEnded(job) && seconds > 0 ? c.json(jobObject(job), 200) : c.json(jobObject(job), 202);
}
