// Errors as users see them, in HTTP bodies and in failed jobs. Words that were written for them come
// from the classes of lib/errors.ts; any other error may name paths or more, and stays in the log.

import {
  Cancelled,
  GpuError,
  InvalidFile,
  InvalidRequest,
  NumericError,
  StorageError,
  storageFailure,
} from "../errors.ts";
import type { ErrorObject } from "./rows.ts";

type UserError =
  | InvalidRequest
  | InvalidFile
  | GpuError
  | NumericError
  | Cancelled
  | StorageError;

/** A message may quote a field's name, a param may be one, and a client makes those as long as it likes. */
const maxLength = 1000;

function isUserError(error: unknown): error is UserError {
  return error instanceof InvalidRequest || error instanceof InvalidFile ||
    error instanceof GpuError || error instanceof NumericError || error instanceof Cancelled ||
    error instanceof StorageError;
}

function shorten(text: string): string {
  return text.length <= maxLength ? text : `${text.slice(0, maxLength).toWellFormed()}...`;
}

/** What a user is told of an error. */
export function errorObject(error: unknown): ErrorObject {
  const known = storageFailure(error) ?? error;
  if (!isUserError(known)) {
    return {
      message: "Cannot go on: the server met an error of its own. Its log has the details under " +
        "the id of this job or request.",
      type: "server_error",
      param: null,
      code: "internal_error",
    };
  }
  const isRequest = known instanceof InvalidRequest || known instanceof InvalidFile ||
    known instanceof Cancelled;
  return {
    message: shorten(known.message),
    type: isRequest ? "invalid_request_error" : "server_error",
    param: known.param === null ? null : shorten(known.param),
    code: known.code,
  };
}
