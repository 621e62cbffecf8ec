// What both kinds of phase share: the policy being trained, where its events go, and the count of
// optimizer steps. The loops themselves are sft.ts and grpo.ts.

import type { Gpu } from "../../kernels/gpu/gpu.ts";
import type { Sample } from "../data/record.ts";
import { NumericError } from "../errors.ts";
import type { Adapter, LoraDropout } from "../lora/adapter.ts";
import type { Decoder } from "../model/decoder.ts";
import { deriveSeed } from "../seeds.ts";
import type { Optimizer } from "./optimizer.ts";
import { learningRateFactor, warmupSteps } from "./schedule.ts";
import type { PhaseSettings } from "./settings.ts";

/** Everything a phase works on and reports to. */
export interface PhaseContext {
  gpu: Gpu;
  decoder: Decoder;
  /** Trainable: it has a gradient. */
  adapter: Adapter;
  /** Over the phase's active elements. */
  optimizer: Optimizer;
  seed: number;
  /** Runs one step's GPU work; other tasks get their turn between steps. */
  turn<T>(work: () => Promise<T>): Promise<T>;
  /** @throws {Cancelled} */
  checkCancelled(): void;
  onProgress(done: number, total: number): void;
  onMetrics(step: number, values: Record<string, number>): void;
  onSample(sample: Record<string, unknown>): void;
}

export interface PhaseResult {
  steps: number;
  /** Tokens that passed forward and backward, and, for GRPO, that were generated. */
  tokens: number;
  /** The last step's metrics. */
  metrics: Record<string, number>;
}

/** Tokens of one forward-backward; more samples than fit go through one after the other. */
export const tokensPerPass = 2048;

/** The samples a phase trains on. */
export function phaseSamples(samples: Sample[], { data }: Pick<PhaseSettings, "data">): Sample[] {
  return data === "all" ? samples : samples.filter(({ system }) => system === data);
}

/**
 * Optimizer steps: `max_steps`, or as many as the epochs hold of `perStep` samples each, rounded up. As
 * in Transformers, no epoch at all is no step at all.
 */
export function totalSteps(
  settings: Pick<PhaseSettings, "max_steps" | "num_train_epochs">,
  samples: number,
  perStep: number,
  updatesPerStep = 1,
): number {
  if (settings.max_steps > 0) return settings.max_steps;
  const perEpoch = Math.max(1, Math.ceil(samples / perStep)) * updatesPerStep;
  return Math.ceil(settings.num_train_epochs * perEpoch);
}

/** The learning rate of optimizer step `step` of `total`, counted from 0. */
export function learningRate(settings: PhaseSettings, step: number, total: number): number {
  const warmup = warmupSteps(total, settings.warmup_ratio);
  return settings.learning_rate *
    learningRateFactor(settings.lr_scheduler_type, step, total, warmup);
}

/** Every pass of every step draws its own dropout masks. */
export function passDropout(
  { lora_dropout: p }: Pick<PhaseSettings, "lora_dropout">,
  seed: number,
  step: number,
  number: number,
): LoraDropout | null {
  if (p === 0) return null;
  return { p, seed: deriveSeed(seed, "dropout", step, number) };
}

/** @throws {NumericError} naming the phase, the step and the value that is NaN or Inf. */
export function requireFinite(
  values: Record<string, number>,
  phase: string,
  step: number,
): void {
  for (const name of ["loss", "grad_norm"]) {
    if (Number.isFinite(values[name])) continue;
    throw new NumericError(
      `Cannot go on with ${phase}: ${name} is ${
        values[name]
      } at step ${step}. Nothing was updated ` +
        "in this step. Lower learning_rate or max_grad_norm, or look at the samples of this step.",
    );
  }
}
