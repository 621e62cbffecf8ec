// The shapes of what the API answers, for /openapi.json and for the types of the handlers.

import { createRoute, OpenAPIHono, type RouteConfig, z } from "@hono/zod-openapi";
import { InvalidRequest } from "../lib/errors.ts";
import { invalidRequest } from "../lib/jobs/issues.ts";
import { jobKinds, type JobRow, jobStatuses, type Page } from "../lib/jobs/rows.ts";
import { isJson } from "./body.ts";

/** A router that answers what zod refuses in the API's error shape. */
export function newRouter(): OpenAPIHono {
  return new OpenAPIHono({
    defaultHook: (result, c) => {
      // Without a content-type the validator checks an empty object in the body's place.
      if (result.target === "json" && !isJson(c.req.header("content-type") ?? null)) {
        throw new InvalidRequest(
          "Cannot do without a body: send JSON, with the content-type application/json.",
          null,
          "missing_body",
        );
      }
      // Whatever the types say, a refused value comes along as it was.
      const { data } = result as { data?: unknown };
      const noun = result.target === "query" ? "query parameter" : "field";
      if (!result.success) throw invalidRequest(result.error.issues, data, noun);
    },
  });
}

export const errorSchema = z.object({
  error: z.object({
    message: z.string(),
    type: z.string(),
    param: z.string().nullable(),
    code: z.string().nullable(),
  }),
}).openapi("Error");

const unixTime = z.number().int();

export const jobSchema = z.object({
  id: z.string(),
  object: z.literal("job"),
  kind: z.enum(jobKinds),
  status: z.enum(jobStatuses),
  created_at: unixTime,
  started_at: unixTime.nullable(),
  finished_at: unixTime.nullable(),
  progress: z.object({
    phase: z.string(),
    done: z.number(),
    total: z.number(),
    unit: z.string(),
    eta_s: z.number().nullable(),
  }).nullable(),
  request: z.unknown(),
  result: z.unknown(),
  error: errorSchema.shape.error.nullable(),
}).openapi("Job");

/** A job's row as the API shows it. */
export function jobObject(row: JobRow): z.infer<typeof jobSchema> {
  return { ...row, object: "job" };
}

export const deletedSchema = z.object({
  id: z.string(),
  object: z.string(),
  deleted: z.literal(true),
}).openapi("Deleted");

/** A page of a list in OpenAI's shape. */
export function listSchema<T extends z.ZodType>(item: T) {
  return z.object({
    object: z.literal("list"),
    data: z.array(item),
    first_id: z.string().nullable(),
    last_id: z.string().nullable(),
    has_more: z.boolean(),
  });
}

/** The store's page as that list. */
export function listObject<R, T extends { id: string }>(page: Page<R>, show: (row: R) => T) {
  const data = page.data.map(show);
  return {
    object: "list" as const,
    data,
    first_id: data.at(0)?.id ?? null,
    last_id: data.at(-1)?.id ?? null,
    has_more: page.has_more,
  };
}

/** Query parameters of a list. */
export function pageQuery(defaultLimit = 20, maxLimit = 100) {
  return z.object({
    after: z.string().max(200).optional().describe(
      "The last id of the page before; the first page without.",
    ),
    limit: z.coerce.number().int().min(1).max(maxLimit).default(defaultLimit).describe(
      "Entries of a page.",
    ),
    order: z.enum(["asc", "desc"]).default("desc").describe("Oldest first, or newest first."),
  });
}

export const idParam = z.object({ id: z.string().describe("The id that its list answers.") });

/** A JSON content with its description. */
export function json<T extends z.ZodType>(schema: T, description: string) {
  return { description, content: { "application/json": { schema } } };
}

/** A JSON request body that must be there, with an example that the schema accepts. */
export function jsonBody<T extends z.ZodType>(schema: T, example: z.input<T>) {
  return { required: true, content: { "application/json": { schema, example } } };
}

/** Ids as they stand in examples. */
export const exampleIds = {
  file: "file-01jz8x4k7m9q2r5t8v1w3y6z0a",
  partition: "part-01jz8x4k7m9q2r5t8v1w3y6z0b",
};

/** OpenAI's clients may send what later versions of its interface know, and probes what they like. */
const looseTags = new Set(["openai", "files", "health"]);

/** A query with nothing beside what the route names: a misspelt filter must not be no filter. */
function strictQuery(query: unknown): z.ZodObject {
  return query instanceof z.ZodObject ? query.strict() : z.strictObject({});
}

/** `createRoute` with the error answer that every route has, and without unknown query parameters. */
export function route<const R extends RouteConfig & { operationId: string; tags: string[] }>(
  config: R,
) {
  const request = config.tags.some((tag) => looseTags.has(tag))
    ? config.request
    : { ...config.request, query: strictQuery(config.request?.query) };
  return createRoute({
    ...{ ...config, request } as R,
    responses: { ...config.responses, default: json(errorSchema, "An error in OpenAI's shape.") },
  });
}
