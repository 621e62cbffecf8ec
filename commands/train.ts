// lorapar train CONFIG.json: one training without a server. The file holds the body of POST /v1/train,
// in which a file may be a path, relative to CONFIG.json, instead of an id.

import { basename, dirname, resolve } from "node:path";
import type { ServerConfig } from "../lib/jobs/config.ts";
import { isId } from "../lib/jobs/ids.ts";
import { invalidRequest } from "../lib/jobs/issues.ts";
import { planTrain } from "../lib/jobs/plan.ts";
import { hasEnded } from "../lib/jobs/queue.ts";
import type { EventRow, JobRow } from "../lib/jobs/rows.ts";
import type { Store } from "../lib/jobs/store.ts";
import { type TrainSettings, trainSettings } from "../lib/train/settings.ts";
import type { AppDeps } from "../routes/deps.ts";
import { close, onStop, open } from "./program.ts";
import { readJson } from "./settings.ts";

/** Copies a file that the configuration names by path into the store and answers its id. */
async function importFile(store: Store, folder: string, given: string): Promise<string> {
  if (isId("file", given)) return given;
  const path = resolve(folder, given);
  let file: Deno.FsFile;
  try {
    file = await Deno.open(path, { read: true });
  } catch (error) {
    throw new Error(`Cannot train on ${path}: ${(error as Error).message}.`);
  }
  const upload = await store.writeUpload(basename(path), file.readable, Infinity);
  return store.addFile({ ...upload, purpose: "fine-tune" }).id;
}

/** The training with ids in place of paths. */
async function withFileIds(store: Store, folder: string, settings: TrainSettings) {
  const { validation_file, evaluate } = settings;
  const idOf = (given: string) => importFile(store, folder, given);
  return {
    ...settings,
    file: await idOf(settings.file),
    validation_file: validation_file === undefined ? undefined : await idOf(validation_file),
    evaluate: evaluate && { ...evaluate, file: await idOf(evaluate.file) },
  };
}

/**
 * Runs the training that the file at `path` describes and prints its progress; answers the exit status.
 * @throws {Error} naming what is wrong with the file.
 */
export async function train(config: ServerConfig, path: string): Promise<number> {
  const body = readJson(path);
  const parsed = trainSettings.safeParse(body);
  if (!parsed.success) throw invalidRequest(parsed.error.issues, body);
  const deps = open(config, new AbortController().signal);
  try {
    const request = await withFileIds(deps.store, dirname(path), parsed.data);
    const { id } = deps.queue.submit(await planTrain(deps, request));
    onStop(() => deps.queue.cancel(deps.store.job(id)!));
    const job = await printUntilEnd(deps, id);
    if (job.error) console.error(`${job.id} failed: ${job.error.message}`);
    else if (job.result) printTraining(deps, job);
    return job.status === "succeeded" ? 0 : 1;
  } finally {
    await close(deps);
  }
}

function printTraining({ store }: AppDeps, job: JobRow): void {
  const { adapter } = job.result as { adapter: string };
  console.log(JSON.stringify(job.result, null, 2));
  console.log(`Adapter: ${resolve(store.resolve(store.adapter(adapter)!.folder))}`);
}

/** Prints a job's progress, a line every two seconds and at each change of phase, to its end. */
async function printUntilEnd({ queue, store }: AppDeps, id: string): Promise<JobRow> {
  let last = 0;
  let metrics = "";
  let phase = "";
  let printedMs = -Infinity;
  const show = ({ type, data }: EventRow) => {
    if (type === "status") console.log(`${id} ${data.status}`);
    if (type === "log") console.log(`${data.level}: ${data.message}`);
    if (type === "metrics") metrics = metricsLine(data);
    if (type !== "progress") return;
    const due = performance.now() - printedMs > 2000 || data.done === data.total;
    if (!due && data.phase === phase) return;
    if (data.phase !== phase) metrics = "";
    phase = String(data.phase);
    printedMs = performance.now();
    const eta = typeof data.eta_s === "number" ? `, ${Math.ceil(data.eta_s)} s left` : "";
    console.log(`${phase} ${data.done}/${data.total} ${data.unit}${eta}${metrics}`);
  };
  const print = () => {
    for (const event of store.events(id, last, 10_000)) {
      last = event.number;
      show(event);
    }
  };
  const unsubscribe = queue.subscribe(id, print);
  print();
  let job = store.job(id)!;
  while (!hasEnded(job)) job = await queue.wait(id, 3600);
  unsubscribe();
  return job;
}

function metricsLine(data: EventRow["data"]): string {
  return ["loss", "reward", "learning_rate", "tokens_per_s"]
    .filter((name) => typeof data[name] === "number")
    .map((name) => `, ${name} ${Number((data[name] as number).toPrecision(4))}`).join("");
}
