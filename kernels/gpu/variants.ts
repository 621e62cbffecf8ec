// Which of an op's ways to compute the same is taken: the measured one, else the first that suits the
// kind of adapter, and never one that the self-check found wrong (kernels/check/).

import { GpuError } from "../../lib/errors.ts";
import type { Gpu } from "./gpu.ts";
import { variantKey } from "./verdict.ts";

/** Whether a variant was found right or, where the device is not guarded, at least not wrong. */
export function isUsable(gpu: Gpu, op: string, variant: string): boolean {
  const verdict = gpu.verdicts.get(variantKey(op, variant));
  return verdict ? verdict.right : !gpu.isGuarded;
}

/**
 * The variant of `op` to use: the choice where there is one, else the first of `preferred`.
 * @throws {GpuError} when none of them computes rightly on this adapter.
 */
export function variantOf<V extends string>(gpu: Gpu, op: string, preferred: readonly V[]): V {
  const choice = gpu.choices.get(op);
  for (const variant of preferred) {
    if (variant === choice && isUsable(gpu, op, variant)) return variant;
  }
  for (const variant of preferred) {
    if (isUsable(gpu, op, variant)) return variant;
  }
  throw noneRight(gpu, op, preferred);
}

/** The error of an op whose every variant was found wrong, with what was found. */
export function noneRight(gpu: Gpu, op: string, variants: readonly string[]): GpuError {
  const found = variants.map((variant) => {
    const verdict = gpu.verdicts.get(variantKey(op, variant));
    return `${variant}: ${verdict && !verdict.right ? verdict.reason : "not checked"}`;
  });
  return new GpuError(
    `Cannot compute ${op} on ${gpu.facts.description}: no kernel for it gives right results there ` +
      `(${found.join("; ")}). Update the driver, or use another adapter.`,
    null,
    "kernel_error",
  );
}
