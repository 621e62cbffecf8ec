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
