// The queue: one job at a time on the engine, first come, first served. Chats and other short tasks
// go to the engine directly and take turns with the running job there.
// States: queued -> running -> succeeded | failed | cancelled; `paused` is reserved for exact resume.
// Every event is a row before anyone hears of it, so a stream that reconnects misses nothing.

import { getLogger } from "@logtape/logtape";
import { Cancelled, InvalidRequest } from "../errors.ts";
import type { Engine } from "../engine/engine.ts";
import type { Progress, Task, TaskEvent } from "../engine/messages.ts";
import { newId } from "./ids.ts";
import type { Plan } from "./plan.ts";
import { registerResult } from "./results.ts";
import type { ErrorObject, JobKind, JobRow } from "./rows.ts";
import { interruptedError, nowSeconds, type Store } from "./store.ts";

const logger = getLogger(["lorapar", "jobs"]);

export interface QueueLimits {
  max_queued_jobs: number;
  progress_interval_ms: number;
}

interface Waiting {
  id: string;
  plan: Plan;
  task: Task;
  stop: AbortController;
  /** Why the server itself stopped it, e.g. a full disk. */
  failure?: unknown;
}

/** Whether a job has come to its end. */
export function hasEnded(job: JobRow): boolean {
  return job.status === "succeeded" || job.status === "failed" || job.status === "cancelled";
}

/** An error as a failed job and an HTTP body show it. */
export function errorObject(error: unknown): ErrorObject {
  const { name, message, param, code } = error as Error & Partial<ErrorObject>;
  const isRequest = name === "InvalidRequest" || name === "InvalidFile" || name === "Cancelled";
  return {
    message: message || String(error),
    type: isRequest ? "invalid_request_error" : "server_error",
    param: param ?? null,
    code: code ?? "internal_error",
  };
}

/** Runs jobs on the engine one after another and keeps their rows. */
export class Queue {
  readonly #waiting: Waiting[] = [];
  readonly #listeners = new Map<string, Set<() => void>>();
  #running: Waiting | null = null;
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
   * @throws {InvalidRequest} when the queue is full, or another job waits for the same model name.
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
    const id = newId("job");
    const outputFolder = this.store.resolve(`jobs/${id}`);
    const task = plan.task(outputFolder);
    Deno.mkdirSync(outputFolder, { mode: 0o700 });
    const job = this.store.addJob(id, task.kind as JobKind, plan.request);
    this.#waiting.push({ id, plan, task, stop: new AbortController() });
    if (!this.#running) this.#drained = this.#drain();
    return this.store.job(id) ?? job;
  }

  #active(): Waiting[] {
    return this.#running ? [this.#running, ...this.#waiting] : this.#waiting;
  }

  /** The job that needs this file, partition or model, waiting or running; null when none does. */
  userOf(id: string): string | null {
    return this.#active().find((job) => job.plan.uses.includes(id))?.id ?? null;
  }

  async #drain(): Promise<void> {
    for (let next = this.#waiting.shift(); next; next = this.#waiting.shift()) {
      this.#running = next;
      try {
        await this.#run(next);
      } catch (error) {
        logger.error("Cannot write the end of {id} into the store: {error}", {
          id: next.id,
          error,
        });
      }
      this.#running = null;
      this.#wake(next.id);
    }
  }

  async #run(job: Waiting): Promise<void> {
    const { id, task } = job;
    this.store.updateJob(id, { status: "running", started_at: nowSeconds() });
    this.#wake(id);
    try {
      const result = await this.engine.run(task, this.#recorder(job), job.stop.signal);
      this.store.durably(() =>
        this.store.endJob(id, "succeeded", registerResult(this.store, id, task, result), null)
      );
    } catch (error) {
      this.#fail(id, job.failure ?? error);
    }
  }

  #fail(id: string, error: unknown): void {
    const cancelled = error instanceof Cancelled;
    const shown = this.#closing && cancelled ? interruptedError : errorObject(error);
    if (!cancelled) logger.warn("{id} failed: {message}", { id, message: shown.message, error });
    const status = cancelled && !this.#closing ? "cancelled" : "failed";
    this.store.durably(() =>
      this.store.endJob(id, status, null, status === "failed" ? shown : null)
    );
  }

  /** Turns the engine's events into rows; progress no more often than the limit says. */
  #recorder(job: Waiting): (event: TaskEvent) => void {
    const { id } = job;
    let lastMs = -Infinity;
    let lastPhase = "";
    const progress = ({ phase, done, total, unit, etaSeconds }: Progress) => {
      const now = performance.now();
      const due = now - lastMs >= this.limits.progress_interval_ms;
      if (!due && phase === lastPhase && done < total) return;
      [lastMs, lastPhase] = [now, phase];
      const shown = { phase, done, total, unit, eta_s: etaSeconds };
      this.store.updateJob(id, { progress: shown });
      this.store.addEvent(id, "progress", shown);
    };
    const record = (event: TaskEvent) => {
      switch (event.type) {
        case "progress":
          return progress(event.progress);
        case "metrics": {
          const { phase, step, values } = event;
          return this.store.addEvent(id, "metrics", { phase, step, ...values });
        }
        case "sample":
          return this.store.addEvent(id, "sample", event.sample);
        case "log":
          return this.store.addEvent(id, "log", { level: event.level, message: event.message });
        case "delta":
          return;
      }
    };
    return (event) => {
      try {
        record(event);
        this.#wake(id);
      } catch (error) {
        // e.g. a full disk: the job fails with the reason, the server goes on.
        job.failure ??= error;
        job.stop.abort();
      }
    };
  }

  /**
   * Cancels a job: at once while it waits, at its next step while it runs.
   * @throws {InvalidRequest} code "conflict" when it has ended otherwise.
   */
  cancel(job: JobRow): JobRow {
    const index = this.#waiting.findIndex((one) => one.id === job.id);
    if (index >= 0) {
      this.#waiting.splice(index, 1);
      this.store.durably(() => this.store.endJob(job.id, "cancelled", null, null));
      this.#wake(job.id);
    } else if (this.#running?.id === job.id) {
      this.#running.stop.abort();
    } else if (job.status !== "cancelled") {
      throw new InvalidRequest(
        `Cannot cancel ${job.id}: it has ended already (${job.status}).`,
        null,
        "conflict",
      );
    }
    return this.store.job(job.id)!;
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
    for (const listener of this.#listeners.get(id) ?? []) listener();
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
      look();
    });
  }

  /** Stops taking jobs and ends those that wait or run as interrupted. */
  async close(): Promise<void> {
    this.#closing = true;
    for (const { id } of this.#waiting.splice(0)) {
      this.store.durably(() => this.store.endJob(id, "failed", null, interruptedError));
      this.#wake(id);
    }
    this.#running?.stop.abort();
    await this.#drained;
  }
}
