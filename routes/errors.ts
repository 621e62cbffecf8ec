// Errors as OpenAI's body with the right status, and an x-request-id on every answer.
// The status follows from the error's class and code; a retry that cannot help is told so.

import type { OpenAPIHono } from "@hono/zod-openapi";
import type { Context, ErrorHandler, MiddlewareHandler, NotFoundHandler } from "hono";
import { HTTPException } from "hono/http-exception";
import type { ContentfulStatusCode } from "hono/utils/http-status";
import { getLogger } from "@logtape/logtape";
import {
  Cancelled,
  GpuError,
  InvalidFile,
  InvalidRequest,
  StorageError,
  storageFailure,
} from "../lib/errors.ts";
import { errorObject } from "../lib/jobs/error_object.ts";
import { newRequestId } from "../lib/jobs/ids.ts";
import type { ErrorObject } from "../lib/jobs/rows.ts";

const logger = getLogger(["lorapar", "http"]);

/** Statuses of InvalidRequest by its code; 400 for any other. */
const statuses: Record<string, ContentfulStatusCode> = {
  invalid_api_key: 401,
  host_not_allowed: 403,
  origin_not_allowed: 403,
  not_found: 404,
  method_not_allowed: 405,
  model_not_found: 404,
  timeout: 408,
  conflict: 409,
  too_large: 413,
  unsupported_media_type: 415,
  queue_full: 429,
  too_many_chats: 429,
  unavailable: 503,
};

/** Statuses of GpuError by its code, where sending the request again may help; 500 for any other. */
const gpuStatuses: Record<string, ContentfulStatusCode> = {
  memory_in_use: 503,
  engine_stopped: 503,
  engine_down: 503,
  device_lost: 503,
};

const types: Partial<Record<number, string>> = {
  401: "authentication_error",
  403: "permission_error",
  429: "rate_limit_error",
};

interface Answer {
  status: ContentfulStatusCode;
  error: ErrorObject;
}

/** The HTTP status of an error; 500 for one that is not of lib/errors.ts. */
function statusOf(error: unknown): ContentfulStatusCode {
  if (error instanceof StorageError) return 507;
  if (error instanceof InvalidRequest) return statuses[error.code] ?? 400;
  if (error instanceof InvalidFile) return 422;
  if (error instanceof GpuError) return gpuStatuses[error.code] ?? 500;
  if (error instanceof Cancelled) return 503;
  return 500;
}

function describe(error: unknown): Answer {
  const known = storageFailure(error) ?? descriptorFailure(error) ??
    (error instanceof HTTPException ? fromHttpException(error) : error);
  const status = statusOf(known);
  const type = types[status] ?? (status < 500 ? "invalid_request_error" : "server_error");
  return { status, error: { ...errorObject(known), type } };
}

/** An error for want of file descriptors as one of ours, null when it means anything else. */
function descriptorFailure(error: unknown): InvalidRequest | null {
  const { code } = (error ?? {}) as { code?: unknown };
  if (code !== "EMFILE" && code !== "ENFILE") return null;
  return new InvalidRequest(
    "Cannot answer: too many files are open. Try again in a moment.",
    null,
    "unavailable",
  );
}

/** Hono's own refusals in our words. */
function fromHttpException(error: HTTPException): InvalidRequest {
  if (error.status === 415) {
    return new InvalidRequest(
      "Cannot read the body: its content-type must be application/json.",
      null,
      "unsupported_media_type",
    );
  }
  return new InvalidRequest(
    `Cannot read the body as JSON: ${error.message}.`,
    null,
    "invalid_json",
  );
}

/** The body of an error, for answers and for events inside a stream. */
export function errorBody(error: unknown): { error: ErrorObject } {
  return { error: describe(error).error };
}

export const onError: ErrorHandler = (error, c) => {
  const { status, error: body } = describe(error);
  // What was cancelled has lost its client, or the server stops.
  if (status >= 500 && !(error instanceof Cancelled)) {
    logger.error("{requestId} {method} {path} failed: {error}", {
      method: c.req.method,
      path: c.req.path,
      requestId: c.res.headers.get("x-request-id"),
      error,
    });
  }
  if (status === 401) c.header("www-authenticate", "Bearer");
  if (status === 409 || status === 500 || status === 507) c.header("x-should-retry", "false");
  if (status === 429 || status === 503) c.header("retry-after", "10");
  return c.json({ error: body }, status);
};

/** Answers 405 where the path takes another method, and 404 where it is nobody's. */
export function notFound(app: OpenAPIHono): NotFoundHandler {
  const takes = (method: string, path: string) =>
    app.router.match(method, path)[0].some(([[, route]]) => route.method === method);
  return (c) => {
    const { method, path } = c.req;
    const methods = ["GET", "POST", "DELETE"].filter((one) => takes(one, path));
    if (methods.includes("GET")) methods.splice(1, 0, "HEAD");
    if (methods.length === 0) {
      throw new InvalidRequest(
        `Cannot ${method} ${path}: there is no such route. /openapi.json lists them.`,
        null,
        "not_found",
      );
    }
    c.header("allow", methods.join(", "));
    throw new InvalidRequest(
      `Cannot ${method} ${path}: this path takes ${methods.join(", ")}.`,
      null,
      "method_not_allowed",
    );
  };
}

/** Names each request, logs it, and turns sniffing of what we serve off. */
export const requestId: MiddlewareHandler = async (c, next) => {
  const id = newRequestId();
  const startMs = performance.now();
  setCommonHeaders(c, id);
  await next();
  setCommonHeaders(c, id);
  logger.debug("{method} {path} {status} in {ms} ms", {
    method: c.req.method,
    path: c.req.path,
    status: c.res.status,
    ms: Math.round(performance.now() - startMs),
    requestId: id,
  });
};

function setCommonHeaders(c: Context, id: string): void {
  c.header("x-request-id", id);
  c.header("x-content-type-options", "nosniff");
}

/** Throws the 404 of a resource that is not there. */
export function refuseMissing(what: string, id: string): never {
  throw new InvalidRequest(`Cannot find the ${what} "${id}".`, null, "not_found");
}
