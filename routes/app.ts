// The whole HTTP interface: guards first, then one router per resource.

import { OpenAPIHono } from "@hono/zod-openapi";
import { adaptersRoutes } from "./adapters.ts";
import { readBodies } from "./body.ts";
import { chatCompletionsRoutes } from "./chat_completions.ts";
import { classifyRoutes } from "./classify.ts";
import type { AppDeps } from "./deps.ts";
import { addDocs } from "./docs.ts";
import { dropHeadBody } from "./download.ts";
import { notFound, onError, requestId } from "./errors.ts";
import { evaluateRoutes } from "./evaluate.ts";
import { filesRoutes } from "./files.ts";
import { allowOrigins, checkHost, checkKey } from "./guard.ts";
import { healthRoutes } from "./health.ts";
import { jobEventsRoutes } from "./job_events.ts";
import { jobsRoutes } from "./jobs.ts";
import { modelsRoutes } from "./models.ts";
import { partitionsRoutes } from "./partitions.ts";
import { trainRoutes } from "./train.ts";

/** Makes the app; nothing is started and nothing outside `deps` is read. */
export function createApp(deps: AppDeps): OpenAPIHono {
  const { config } = deps;
  const app = new OpenAPIHono();
  app.onError(onError);
  app.notFound(notFound(app));
  app.use(requestId, dropHeadBody, checkHost(config));
  if (config.allowed_origins.length > 0) app.use(allowOrigins(config));
  app.use(checkKey(config), readBodies(config));
  for (
    const routes of [
      healthRoutes,
      filesRoutes,
      classifyRoutes,
      partitionsRoutes,
      trainRoutes,
      evaluateRoutes,
      jobsRoutes,
      jobEventsRoutes,
      adaptersRoutes,
      modelsRoutes,
      chatCompletionsRoutes,
    ]
  ) {
    app.route("/", routes(deps));
  }
  addDocs(app, deps.version);
  // The dashboard will be here.
  app.get("/", (c) => c.redirect("/docs"));
  return app;
}
