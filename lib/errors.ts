// Errors by meaning. Each message says what was asked, what was found and what to do.
// `code` and `param` reach the HTTP error body and a failed job's `error` unchanged.

/** A request that cannot be served as asked: a 4xx for HTTP, a failed job otherwise. */
export class InvalidRequest extends Error {
  override name = "InvalidRequest";
  constructor(
    message: string,
    readonly param: string | null = null,
    readonly code = "invalid_value",
  ) {
    super(message);
  }
}

/** A model, tokenizer, adapter or dataset file that is missing something, truncated or lying. */
export class InvalidFile extends Error {
  override name = "InvalidFile";
  constructor(
    message: string,
    readonly param: string | null = null,
    readonly code = "invalid_file",
  ) {
    super(message);
  }
}

/** The adapter is missing, too small, out of memory, lost, or refused a kernel. */
export class GpuError extends Error {
  override name = "GpuError";
  constructor(message: string, readonly param: string | null = null, readonly code = "gpu_error") {
    super(message);
  }
}

/** Training met NaN or Inf in weights, loss or gradients. */
export class NumericError extends Error {
  override name = "NumericError";
  constructor(message: string, readonly param: string | null = null, readonly code = "not_finite") {
    super(message);
  }
}

/** The user cancelled the job. */
export class Cancelled extends Error {
  override name = "Cancelled";
  readonly param = null;
  readonly code = "cancelled";
}

/** The disk under the store is full, used up by quota, or read-only: 507 for HTTP. */
export class StorageError extends Error {
  override name = "StorageError";
  constructor(
    message: string,
    readonly param: string | null = null,
    readonly code = "storage_full",
  ) {
    super(message);
  }
}

const diskFailures: Record<string, string> = {
  ENOSPC: "the disk is full",
  EDQUOT: "the disk quota is used up",
  EROFS: "the disk is read-only",
};

/** SQLite's result codes for a write that the disk refused, each without its extension. */
const sqliteFailures: Record<number, string> = {
  8: "the store is read-only",
  10: "the disk reports an error",
  13: "the disk is full",
};

/**
 * `error` as a StorageError when a file system or SQLite refused a write for want of room, null when
 * it means anything else. SQLite's I/O errors count: some systems report a full disk as one.
 */
export function storageFailure(error: unknown): StorageError | null {
  if (error instanceof StorageError) return error;
  const { code, errcode } = (error ?? {}) as { code?: unknown; errcode?: unknown };
  const found = typeof errcode === "number"
    ? sqliteFailures[errcode & 0xff]
    : typeof code === "string" && Object.hasOwn(diskFailures, code)
    ? diskFailures[code]
    : undefined;
  if (!found) return null;
  return new StorageError(
    `Cannot write into the data folder: ${found}. Make room (delete files, jobs, partitions or ` +
      "adapters, or free the disk), then try again.",
  );
}
