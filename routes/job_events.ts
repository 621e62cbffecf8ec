// What a job tells while it runs: server-sent events that replay from any number, metrics as JSON or
// CSV, and samples. All of it is read from the store, so a finished job tells the same.

import { z } from "@hono/zod-openapi";
import { hasEnded } from "../lib/jobs/queue.ts";
import type { EventRow, EventType } from "../lib/jobs/rows.ts";
import type { AppDeps } from "./deps.ts";
import { findJob } from "./jobs.ts";
import { idParam, json, listSchema, newRouter, route } from "./schemas.ts";
import { sseResponse, type SseWriter } from "./sse.ts";

/** Rows read at once while a stream catches up. */
const batch = 500;

type Wake = "event" | "silence" | "end";

/** Resolves at the next event of the job, after the heartbeat time of silence, or at the stream's end. */
function nextEvent(deps: AppDeps, jobId: string, signal: AbortSignal): [Promise<Wake>, () => void] {
  const { promise, resolve } = Promise.withResolvers<Wake>();
  const unsubscribe = deps.queue.subscribe(jobId, () => resolve("event"));
  const silenceMs = deps.config.limits.heartbeat_seconds * 1000;
  const timer = setTimeout(() => resolve("silence"), silenceMs);
  const leave = () => resolve("end");
  signal.addEventListener("abort", leave);
  return [promise, () => {
    unsubscribe();
    clearTimeout(timer);
    signal.removeEventListener("abort", leave);
  }];
}

/** Sends every event past `after`, then new ones as they come, until the job has ended. */
async function follow(deps: AppDeps, jobId: string, after: number, sse: SseWriter): Promise<void> {
  let last = after;
  await sse.comment("events of " + jobId);
  while (!sse.signal.aborted) {
    // Subscribed before the rows are read, so that nothing falls between.
    const [next, stop] = nextEvent(deps, jobId, sse.signal);
    try {
      const job = deps.store.job(jobId);
      // Deleted while its reader was slow.
      if (!job) return;
      const rows = deps.store.events(jobId, last, batch);
      for (const { number, type, data } of rows) {
        await sse.event(JSON.stringify(data), { id: number, event: type });
        last = number;
      }
      if (rows.length === batch) continue;
      if (hasEnded(job)) return;
      if (rows.length > 0) continue;
      if (await next === "silence") await sse.comment("heartbeat");
    } finally {
      stop();
    }
  }
}

/** A number to go on after. That coercion makes 0 of null is no part of the interface. */
const eventNumber = z.coerce.number().int().min(0).default(0)
  .openapi({ type: "integer", minimum: 0, default: 0 });

const eventsRoute = route({
  method: "get",
  path: "/v1/jobs/{id}/events",
  operationId: "streamJobEvents",
  tags: ["jobs"],
  summary: "Follow a job (server-sent events)",
  request: {
    params: idParam,
    headers: z.object({
      "last-event-id": eventNumber.describe(
        "The number of the last event that was received; those after it are sent again.",
      ),
    }),
  },
  responses: {
    200: {
      description: "Events of the types status, progress, metrics, sample and log, numbered from " +
        "1, replayed from Last-Event-ID; the stream ends when the job has.",
      content: { "text/event-stream": { schema: { type: "string" } } },
    },
  },
});

const rowQuery = z.object({
  after: eventNumber.describe(
    "The event number of the last row seen.",
  ),
  limit: z.coerce.number().int().min(1).max(100_000).default(10_000).describe("Rows of a page."),
});

/** Numbers by name; phase and step name the row. */
const metricsRow = z.looseObject({
  id: z.string(),
  created_at: z.number().int(),
  phase: z.string(),
  step: z.number(),
});

const metricsRoute = route({
  method: "get",
  path: "/v1/jobs/{id}/metrics",
  operationId: "listJobMetrics",
  tags: ["jobs"],
  summary: "A job's metrics, a row a step (JSON, or CSV by Accept)",
  request: { params: idParam, query: rowQuery },
  responses: {
    200: {
      description: "The rows in order.",
      content: {
        "application/json": { schema: listSchema(metricsRow) },
        "text/csv": { schema: { type: "string" } },
      },
    },
  },
});

const sampleRow = z.looseObject({ id: z.string(), created_at: z.number().int() });

const samplesRoute = route({
  method: "get",
  path: "/v1/jobs/{id}/samples",
  operationId: "listJobSamples",
  tags: ["jobs"],
  summary: "Rollouts and evaluated answers, with their rewards",
  request: { params: idParam, query: rowQuery },
  responses: { 200: json(listSchema(sampleRow), "The samples in order.") },
});

function rowsOf(deps: AppDeps, id: string, type: EventType, query: z.infer<typeof rowQuery>) {
  const rows = deps.store.events(findJob(deps, id).id, query.after, query.limit + 1, type);
  const data = rows.slice(0, query.limit)
    .map((row: EventRow) => ({ ...row.data, id: String(row.number), created_at: row.created_at }));
  return {
    object: "list" as const,
    data,
    first_id: data.at(0)?.id ?? null,
    last_id: data.at(-1)?.id ?? null,
    has_more: rows.length > query.limit,
  };
}

/** Rows as CSV (RFC 4180), a column for every name that occurs, in order of appearance. */
function csv(rows: Record<string, unknown>[]): string {
  const names = [...new Set(["phase", "step", ...rows.flatMap((row) => Object.keys(row))])]
    .filter((name) => name !== "id" && name !== "created_at");
  const cell = (value: unknown) => {
    const text = value === null || value === undefined ? "" : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [names, ...rows.map((row) => names.map((name) => row[name]))]
    .map((cells) => cells.map(cell).join(",") + "\r\n").join("");
}

export function jobEventsRoutes(deps: AppDeps) {
  return newRouter()
    .openapi(eventsRoute, (c) => {
      const { id } = findJob(deps, c.req.valid("param").id);
      const after = c.req.valid("header")["last-event-id"];
      return sseResponse((sse) => follow(deps, id, after, sse), deps.shutdown);
    })
    .openapi(metricsRoute, (c) => {
      const list = rowsOf(deps, c.req.valid("param").id, "metrics", c.req.valid("query"));
      if (/\btext\/csv\b/.test(c.req.header("accept") ?? "")) {
        return c.body(csv(list.data), 200, { "content-type": "text/csv; charset=utf-8" });
      }
      return c.json(list as z.infer<ReturnType<typeof listSchema<typeof metricsRow>>>, 200);
    })
    .openapi(
      samplesRoute,
      (c) => c.json(rowsOf(deps, c.req.valid("param").id, "sample", c.req.valid("query")), 200),
    );
}
