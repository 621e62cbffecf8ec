// What a start does with jobs that an earlier run of the server left queued: each request is planned
// again, so that it meets the files, models and settings of today, and waits in its old order. Nothing
// is written for a job that can run, so a kill in between changes nothing; one that cannot run any more
// fails with the reason.

import type { z } from "zod";
import { classifySettings, partitionSettings } from "../par/settings.ts";
import { evaluateSettings, trainSettings } from "../train/settings.ts";
import { errorObject } from "./error_object.ts";
import { invalidRequest } from "./issues.ts";
import {
  type Plan,
  planClassify,
  type PlanDeps,
  planEvaluate,
  planPartition,
  planTrain,
} from "./plan.ts";
import type { Queue } from "./queue.ts";
import type { JobRow } from "./rows.ts";

/** @throws {InvalidRequest} when this version does not accept what an older one stored. */
function parse<T>(schema: z.ZodType<T>, request: unknown): T {
  const parsed = schema.safeParse(request);
  if (!parsed.success) throw invalidRequest(parsed.error.issues, request);
  return parsed.data;
}

function planAgain(deps: PlanDeps, { kind, request }: JobRow): Promise<Plan> {
  switch (kind) {
    case "classify":
      return planClassify(deps, parse(classifySettings, request));
    case "partition":
      return planPartition(deps, parse(partitionSettings, request));
    case "train":
      return planTrain(deps, parse(trainSettings, request));
    case "evaluate":
      return planEvaluate(deps, parse(evaluateSettings, request));
  }
}

/**
 * Plans them all and answers how to queue them, which happens at once: a server does the one before it
 * takes requests and the other once it is sure to stay.
 */
export async function restoreQueue(deps: PlanDeps & { queue: Queue }): Promise<() => void> {
  const { store, queue } = deps;
  const steps: (() => void)[] = [];
  for (const job of store.queuedJobs()) {
    try {
      const plan = await planAgain(deps, job);
      steps.push(() => queue.resubmit(job.id, plan));
    } catch (error) {
      steps.push(() => store.endJob(job.id, "failed", errorObject(error)));
    }
  }
  return () => steps.forEach((step) => step());
}
