// The queue: one job at a time on the engine, first come, first served. Chats and other short tasks
// go to the engine directly and take turns with the running job there.
// States: queued -> running -> succeeded | failed | cancelled; `paused` is reserved for exact resume.
// Every event is a row before anyone hears of it, so a stream that reconnects misses nothing.
// A full disk stops the queue, not the job that runs: the next job stays queued, and one that is done
// stays running with its results, until they can be written; cancelling works meanwhile. What fails or
// is cancelled ends at once (store.ts keeps its end until it can be written).

import { getLogger } from "@logtape/logtape";
import { Cancelled, GpuError, InvalidRequest, storageFailure } from "../errors.ts";
import type { Engine } from "../engine/engine.ts";
import type { Task, TaskEvent, TaskResults } from "../engine/messages.ts";
import { emptyFolder, removeIfThere, syncTree } from "./disk.ts";
import { errorObject } from "./error_object.ts";
import { retryMs } from "./held.ts";
import { isId, newId } from "./ids.ts";
import type { Plan } from "./plan.ts";
import { recorder } from "./recorder.ts";
import { registerResult } from "./results.ts";
import type { ErrorObject, JobKind, JobRow } from "./rows.ts";
import { interruptedError, type Store } from "./store.ts";

const logger = getLogger(["lorapar", "jobs"]);

export interface QueueLimits {
  max_queued_jobs: number;
  progress_interval_ms: number;
}

interface Waiting {
  id: string;
  plan: Plan;
  task: JobTask;
  /** Its signal's reason says who stopped the job. */
  stop: AbortController;
}

type JobTask = Extract<Task, { kind: JobKind }>;

/** Why a job is stopped: its user cancels it, the server stops, or an event of it cannot be kept. */
type StopReason = "cancelled" | "interrupted" | Error;

/** Whether a job has come to its end. */
export function hasEnded({ status }: Pick<JobRow, "status">): boolean {
  return status === "succeeded" || status === "failed" || status === "cancelled";
}

/** @throws {Cancelled} when `signal` fires first. */
function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      if (signal.aborted) reject(new Cancelled("Cancelled."));
      else resolve();
    };
    const timer = setTimeout(end, ms);
    signal.addEventListener("abort", end);
    if (signal.aborted) end();
  });
}

/** Runs jobs on the engine one after another and keeps their rows. */
export class Queue {
  readonly #waiting: Waiting[] = [];
  readonly #listeners = new Map<string, Set<() => void>>();
  #running: Waiting | null = null;
  #draining = false;
  #drained: Promise<void> = Promise.resolve();
  #closing = false;

  constructor(
    readonly store: Store,
    readonly engine: Engine,
    readonly limits: QueueLimits,
  ) {}

  /** Whether the queue has stopped taking jobs. */
  get closing(): boolean {
    return this.#closing;
  }

  /**
   * Stores a planned request as a job; it starts when those before it have ended.
   * @throws {InvalidRequest} when the queue is full, another job waits for the same model name, or
   * something it needs is gone.
   */
  submit(plan: Plan): JobRow {
    if (this.#closing) {
      throw new InvalidRequest("Cannot take a job: the server is stopping.", null, "unavailable");
    }
    if (this.#waiting.length >= this.limits.max_queued_jobs) {
      throw new InvalidRequest(
        `Cannot queue another job: ${this.#waiting.length} wait already. Try again later.`,
        null,
        "queue_full",
      );
    }
    const all = this.#active();
    if (plan.modelName && all.some((job) => job.plan.modelName === plan.modelName)) {
      throw new InvalidRequest(
        `Cannot name the model "${plan.modelName}": a job that waits or runs will. ` +
          "Choose another suffix.",
        "suffix",
        "conflict",
      );
    }
    this.#refuseGone(plan);
    const id = newId("job");
    const waiting = this.#waitingJob(id, plan);
    const job = this.store.addJob(id, waiting.task.kind, plan.request);
    this.#push(waiting);
    return this.store.job(id) ?? job;
  }

  /** What was deleted while the request was planned is missed here, as nothing is awaited any more. */
  #refuseGone({ uses }: Plan): void {
    const { store } = this;
    const isGone = (id: string) =>
      isId("file", id) && !store.file(id) || isId("part", id) && !store.partition(id) ||
      isId("adapter", id) && !store.adapter(id);
    const gone = uses.find(isGone);
    if (gone === undefined) return;
    throw new InvalidRequest(
      `Cannot queue the job: ${gone} was deleted while the request was read.`,
      null,
      "conflict",
    );
  }

  /** Takes up a job that an earlier run of the server left queued; its row is there already. */
  resubmit(id: string, plan: Plan): void {
    this.#push(this.#waitingJob(id, plan));
  }

  #waitingJob(id: string, plan: Plan): Waiting {
    const task = plan.task(this.store.resolve(`jobs/${id}`)) as JobTask;
    return { id, plan, task, stop: new AbortController() };
  }

  #push(job: Waiting): void {
    this.#waiting.push(job);
    if (!this.#draining) this.#drained = this.#drain();
  }

  #active(): Waiting[] {
    return this.#running ? [this.#running, ...this.#waiting] : this.#waiting;
  }

  /** The job that needs this file, partition or adapter, waiting or running; null when none does. */
  userOf(id: string): string | null {
    return this.#active().find((job) => job.plan.uses.includes(id))?.id ?? null;
  }

  /** @throws {InvalidRequest} code "conflict" while a job that waits or runs needs what is to be deleted. */
  refuseInUse(id: string): void {
    const user = this.userOf(id);
    if (!user) return;
    throw new InvalidRequest(
      `Cannot delete ${id}: ${user} needs it. Cancel that job or let it end.`,
      null,
      "conflict",
    );
  }

  async #drain(): Promise<void> {
    this.#draining = true;
    for (let next = this.#waiting.shift(); next; next = this.#waiting.shift()) {
      this.#running = next;
      try {
        if (await this.#run(next)) await removeIfThere(next.task.outputFolder);
      } catch (error) {
        logger.error("Cannot clean up after {id}: {error}", { id: next.id, error });
      }
    }
    this.#draining = false;
  }

  /** Runs a job to its end, whatever that is, and answers whether its folder is left without use. */
  async #run(job: Waiting): Promise<boolean> {
    const { id, task, stop } = job;
    let startMs: number | null = null;
    try {
      await this.#whenThereIsRoom(stop.signal, () => this.store.beginJob(id));
      startMs = performance.now();
      logger.info("{id} ({kind}) starts", { id, kind: task.kind });
      this.#wake(id);
      await emptyFolder(task.outputFolder);
      const result = await this.#runOnEngine(job);
      await syncTree(task.outputFolder);
      const register = () => registerResult(this.store, id, task, result);
      await this.#whenThereIsRoom(
        stop.signal,
        () => this.store.succeedJob(id, register),
        () => this.#tellOfFullDisk(id),
      );
      return false;
    } catch (error) {
      // A job that never began stays queued for the next start.
      if (startMs !== null || stop.signal.reason !== "interrupted") this.#fail(job, error);
      return true;
    } finally {
      this.#running = null;
      if (startMs !== null) this.#logEnd(id, task.kind, startMs);
      this.#wake(id);
    }
  }

  /** An engine that cannot be started fails no job that has not begun on it: they wait for it. */
  async #runOnEngine(job: Waiting): Promise<TaskResults[JobKind]> {
    const { task, stop } = job;
    for (let tries = 0;; tries++) {
      try {
        return await this.engine.run(task, this.#onEvent(job), stop.signal);
      } catch (error) {
        if (!(error instanceof GpuError && error.code === "engine_down")) throw error;
        const message = `This job waits for the engine. ${error.message}`;
        if (tries === 0) this.#onEvent(job)({ type: "log", level: "warning", message });
      }
      await pause(retryMs, stop.signal);
    }
  }

  /**
   * Tries `write` until the disk takes it. What is done by then is not thrown away: the first try comes
   * before a look at `signal`.
   * @throws {Cancelled} when `signal` fires while it waits, and what `write` throws for other reasons
   */
  async #whenThereIsRoom(
    signal: AbortSignal,
    write: () => void,
    onFirstFailure = () => {},
  ): Promise<void> {
    for (let tries = 0;; tries++) {
      try {
        return write();
      } catch (error) {
        if (!storageFailure(error)) throw error;
        if (tries === 0) {
          logger.error("The queue waits for room: {error}", { error: storageFailure(error) });
          onFirstFailure();
        }
      }
      await pause(retryMs, signal);
    }
  }

  #tellOfFullDisk(id: string): void {
    const progress = { phase: "storing", done: 0, total: 1, unit: "results", eta_s: null };
    const message =
      "Cannot store the results yet: the disk is full. The job ends when there is room.";
    this.store.record(id, { progress }, [
      { type: "progress", data: progress },
      { type: "log", data: { level: "warning", message } },
    ]);
    this.#wake(id);
  }

  #fail({ id, stop }: Waiting, error: unknown): void {
    const reason: StopReason | undefined = stop.signal.reason;
    if (reason === "cancelled") {
      if (!(error instanceof Cancelled)) {
        logger.warn("{id} failed as it was cancelled", { id, error });
      }
      return this.store.endJob(id, "cancelled", null);
    }
    const shown = reason === "interrupted" ? interruptedError : this.#shown(reason ?? error);
    const detail = shown.code === "internal_error" ? reason ?? error : shown.message;
    logger.warn("{id} failed: {detail}", { id, detail });
    this.store.endJob(id, "failed", shown);
  }

  /** An error without the place of the data folder, which is nothing that the API's users need to know. */
  #shown(error: unknown): ErrorObject {
    const { message, ...rest } = errorObject(error);
    return { message: message.replaceAll(this.store.resolve(""), ""), ...rest };
  }

  #logEnd(id: string, kind: JobKind, startMs: number): void {
    const seconds = ((performance.now() - startMs) / 1000).toFixed(1);
    const { status } = this.store.job(id)!;
    logger.info("{id} ({kind}) {status} after {seconds} s", { id, kind, status, seconds });
  }

  /** Turns the engine's events into rows; an event that cannot be one fails the job, not the server. */
  #onEvent({ id, stop }: Waiting): (event: TaskEvent) => void {
    const record = recorder(this.store, id, this.limits.progress_interval_ms);
    return (event) => {
      try {
        record(event);
        this.#wake(id);
      } catch (error) {
        stop.abort(error);
      }
    };
  }

  /**
   * Cancels a job: at once while it waits, at its next step while it runs.
   * @throws {InvalidRequest} code "conflict" when it has ended otherwise.
   */
  cancel({ id }: JobRow): JobRow {
    const index = this.#waiting.findIndex((one) => one.id === id);
    const { status } = this.store.job(id)!;
    if (index >= 0) {
      this.#waiting.splice(index, 1);
      this.store.endJob(id, "cancelled", null);
      this.#wake(id);
    } else if (this.#running?.id === id && !hasEnded({ status })) {
      this.#running.stop.abort("cancelled" satisfies StopReason);
    } else if (status !== "cancelled") {
      throw new InvalidRequest(
        `Cannot cancel ${id}: it has ended already (${status}).`,
        null,
        "conflict",
      );
    }
    return this.store.job(id)!;
  }

  /** Calls `listener` after each new event of a job; answers how to stop that. */
  subscribe(id: string, listener: () => void): () => void {
    const listeners = this.#listeners.get(id) ?? new Set();
    this.#listeners.set(id, listeners.add(listener));
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0 && this.#listeners.get(id) === listeners) this.#listeners.delete(id);
    };
  }

  #wake(id: string): void {
    for (const listener of this.#listeners.get(id) ?? []) {
      try {
        listener();
      } catch (error) {
        logger.error("Cannot tell a listener of {id}: {error}", { id, error });
      }
    }
  }

  /** The job once it has ended, or as it is after `seconds` or when `signal` fires. */
  wait(id: string, seconds: number, signal?: AbortSignal): Promise<JobRow> {
    return new Promise((resolve) => {
      const finish = () => {
        clearTimeout(timer);
        unsubscribe();
        signal?.removeEventListener("abort", finish);
        resolve(this.store.job(id)!);
      };
      const look = () => {
        if (hasEnded(this.store.job(id)!)) finish();
      };
      const unsubscribe = this.subscribe(id, look);
      const timer = setTimeout(finish, seconds * 1000);
      signal?.addEventListener("abort", finish);
      if (signal?.aborted) finish();
      else look();
    });
  }

  /** Stops taking jobs and ends the one that runs as interrupted; those that wait stay queued. */
  async close(): Promise<void> {
    this.#closing = true;
    this.#waiting.length = 0;
    this.#running?.stop.abort("interrupted" satisfies StopReason);
    await this.#drained;
  }
}
