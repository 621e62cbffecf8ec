// The learning rate as a share of its peak, per optimizer step, as Transformers' schedulers of the same
// names (get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup, get_constant_schedule):
//   step < warmup:  step / warmup                       (so the very first step moves nothing)
//   cosine:         max(0, (1 + cos(pi * p)) / 2),  p = (step - warmup) / (total - warmup)
//   linear:         max(0, 1 - p)
// As there, "constant" has no warm-up. Left out: restarts and the other schedules.

import type { SftSettings } from "./settings.ts";

export type Schedule = SftSettings["lr_scheduler_type"];

/** Optimizer steps of warm-up: the share of all steps, rounded up. */
export function warmupSteps(totalSteps: number, warmupRatio: number): number {
  return Math.ceil(totalSteps * warmupRatio);
}

/** The factor in [0, 1] for optimizer step `step`, counted from 0, of `totalSteps`. */
export function learningRateFactor(
  schedule: Schedule,
  step: number,
  totalSteps: number,
  warmup: number,
): number {
  if (schedule === "constant") return 1;
  if (step < warmup) return step / Math.max(1, warmup);
  const length = Math.max(1, totalSteps - warmup);
  if (schedule === "linear") return Math.max(0, (totalSteps - step) / length);
  return Math.max(0, 0.5 * (1 + Math.cos(Math.PI * ((step - warmup) / length))));
}
