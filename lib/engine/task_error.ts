// Errors as they cross from one thread to another: structured clone keeps neither their class nor the
// fields of lib/errors.ts.

import {
  Cancelled,
  GpuError,
  InvalidFile,
  InvalidRequest,
  NumericError,
  StorageError,
  storageFailure,
} from "../errors.ts";
import type { TaskError } from "./messages.ts";

const errorClasses = {
  Cancelled,
  InvalidFile,
  InvalidRequest,
  GpuError,
  NumericError,
  StorageError,
} as const;

/** An error of ours as it is; any other for the log (`fault`), and without its stack for the user. */
export function describeError(error: unknown, fault: (message: string) => void): TaskError {
  // A full disk is the user's to know, whatever was being written.
  const { name, message, param, code } = (storageFailure(error) ?? error ?? {}) as Partial<
    TaskError
  >;
  if (typeof code === "string" && param !== undefined) {
    return { name: name ?? "Error", message: message ?? "", param, code };
  }
  fault(stackOf(error));
  const what = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  return {
    name: "Error",
    message: `Internal error: ${what}. The server's log has the details.`,
    param: null,
    code: "internal_error",
  };
}

/** The error again, of its own class. */
export function reviveError({ name, message, param, code }: TaskError): Error {
  if (!Object.hasOwn(errorClasses, name)) return new Error(message);
  const known = errorClasses[name as keyof typeof errorClasses];
  return new known(message, param, code);
}

/** What the log shows of an error. */
export function stackOf(error: unknown): string {
  return error instanceof Error ? error.stack ?? error.message : String(error);
}
