// What the routes are given by main.ts or a test: nothing in routes/ makes any of it.

import type { Engine } from "../lib/engine/engine.ts";
import type { PlanDeps } from "../lib/jobs/plan.ts";
import type { Queue } from "../lib/jobs/queue.ts";

export interface AppDeps extends PlanDeps {
  engine: Engine;
  queue: Queue;
  /** Fires when the server stops; event streams and waits end then. */
  shutdown: AbortSignal;
  version: string;
}
