// No kernel is used on an adapter before its results were compared there with f64, on random data at
// odd sizes. An op is checked before the first task that needs it: its variants in the order in which
// the adapter would take them, until one is right. What is found is kept with the measured choices,
// under all that was dispatched, so a changed kernel is checked again. A wrong variant is left out; where
// none is right the task is refused, and the guard of the pipelines refuses what nobody asked about.

import { basename } from "node:path";
import type { Dispatch, Gpu } from "../gpu/gpu.ts";
import { kernelText } from "../gpu/pipelines.ts";
import { loadRecord, saveRecord } from "../gpu/record.ts";
import { isUsable, noneRight } from "../gpu/variants.ts";
import { variantKey, type Verdict } from "../gpu/verdict.ts";
import { CheckMark } from "./mark.ts";
import { type OpCheck, Trial } from "./trial.ts";

/** Ops of a device that were asked for and found right. */
const settled = new WeakMap<Gpu, Set<string>>();

/**
 * Guards a newly opened device: what is not found right cannot run on it from here on. What earlier
 * runs found is taken from `recordPath`, where there is one, and added to it.
 */
export async function guardKernels(gpu: Gpu, recordPath: string | null): Promise<void> {
  if (recordPath !== null) await loadRecord(gpu, recordPath);
  gpu.isGuarded = true;
}

/**
 * Checks ops that a task needs and nobody has asked for yet; nothing on a device that is not guarded.
 * Nothing else may be recorded meanwhile.
 * @throws {GpuError} naming an op that no variant computes rightly here.
 */
export async function requireOps(gpu: Gpu, checks: readonly OpCheck[]): Promise<void> {
  if (!gpu.isGuarded) return;
  const known = settled.get(gpu) ?? new Set();
  settled.set(gpu, known);
  const nameOf = ({ op, variants }: OpCheck) => `${op}: ${variants(gpu)}`;
  const open = checks.filter((check) => !known.has(nameOf(check)));
  if (open.length === 0) return;
  await checkOps(gpu, open);
  for (const check of open) {
    const all = check.variants(gpu);
    if (!all.some((variant) => isUsable(gpu, check.op, variant))) {
      throw noneRight(gpu, check.op, all);
    }
    known.add(nameOf(check));
  }
}

/** Checks ops without asking that they be right. Nothing else may be recorded meanwhile. */
export async function checkOps(gpu: Gpu, checks: readonly OpCheck[]): Promise<void> {
  await checking(gpu, async (check) => {
    for (const op of checks) {
      for (const variant of op.variants(gpu)) {
        if ((await check(op, variant)).right) break;
      }
    }
  });
}

/** Checks all variants that measuring is to choose from. Nothing else may be recorded meanwhile. */
export async function checkVariants(
  gpu: Gpu,
  op: OpCheck,
  variants: readonly string[],
): Promise<void> {
  await checking(gpu, async (check) => {
    for (const variant of variants) await check(op, variant);
  });
}

type Check = (op: OpCheck, variant: string) => Promise<Verdict>;

/** So many checks of a variant that ended the process or lost the device are no coincidence. */
const tooManyEnds = 2;

/** Gives `work` a way to check, and keeps what it finds and where earlier checks came to their end. */
async function checking(gpu: Gpu, work: (check: Check) => Promise<void>): Promise<void> {
  const mark = await CheckMark.open(gpu.recordPath);
  const keep = async (key: string, verdict: Verdict) => {
    gpu.verdicts.set(key, verdict);
    await saveRecord(gpu);
  };
  if (mark.found && mark.found.ends >= tooManyEnds) {
    const { key, fingerprint, ends } = mark.found;
    const reason = `${ends} times the process ended or the device was lost while it was checked; ` +
      `delete ${basename(gpu.recordPath!)} in the data folder to check it again`;
    await keep(key, { fingerprint, right: false, reason, milliseconds: 0 });
    mark.isSettled = true;
  }
  try {
    await work(async (op, variant) => {
      const key = variantKey(op.op, variant);
      const dispatches = await planOf(gpu, op, variant);
      const fingerprint = await fingerprintOf(dispatches);
      let verdict = gpu.verdicts.get(key);
      if (verdict?.fingerprint !== fingerprint) {
        await mark.set(key, fingerprint);
        verdict = await compared(gpu, op, variant, fingerprint);
        // A lost device throws here, and its mark stays.
        if (gpu.failed) await gpu.sync();
        await keep(key, verdict);
      }
      if (verdict.right) gpu.trust(dispatches.map(({ kernel }) => kernel));
      return verdict;
    });
  } finally {
    await mark.close({ hasLostDevice: gpu.failed });
  }
}

/** Records an op by one variant, right or wrong, guarded or not. */
function recordForced(gpu: Gpu, { op, record }: OpCheck, variant: string, trial: Trial): void {
  const key = variantKey(op, variant);
  const { isGuarded } = gpu;
  const choice = gpu.choices.get(op), verdict = gpu.verdicts.get(key);
  gpu.isGuarded = false;
  gpu.choices.set(op, variant);
  gpu.verdicts.delete(key);
  try {
    trial.record(() => record(trial, variant));
  } finally {
    if (choice === undefined) gpu.choices.delete(op);
    else gpu.choices.set(op, choice);
    if (verdict) gpu.verdicts.set(key, verdict);
    gpu.isGuarded = isGuarded;
  }
}

/** What the check would dispatch; nothing where it cannot even be recorded, which `compared` then says. */
async function planOf(gpu: Gpu, op: OpCheck, variant: string): Promise<Dispatch[]> {
  const trial = new Trial(gpu);
  try {
    return gpu.plan(() => recordForced(gpu, op, variant, trial));
  } catch {
    return [];
  } finally {
    await trial.release();
  }
}

async function compared(
  gpu: Gpu,
  op: OpCheck,
  variant: string,
  fingerprint: string,
): Promise<Verdict> {
  const begin = performance.now();
  const milliseconds = () => Math.round(performance.now() - begin);
  const trial = new Trial(gpu);
  try {
    const error = await gpu.attempt(async () => {
      recordForced(gpu, op, variant, trial);
      return await trial.compare();
    });
    return { fingerprint, right: true, error, milliseconds: milliseconds() };
  } catch (error) {
    const reason = (error as Error).message.slice(0, 500);
    return { fingerprint, right: false, reason, milliseconds: milliseconds() };
  } finally {
    if (!gpu.failed) await trial.release();
  }
}

/** Of all that decides what the GPU is asked to do. */
async function fingerprintOf(dispatches: readonly Dispatch[]): Promise<string> {
  const texts = dispatches.map(({ kernel, workgroups, params = [] }) =>
    `${kernelText(kernel)}|${workgroups}|${params}`
  );
  const bytes = new TextEncoder().encode(texts.join("\n"));
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}
