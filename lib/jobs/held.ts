// What a job's row and events should say while the disk is full: changes and events that could not be
// written, kept in memory in their order. The store shows them as if they were rows; they are written as
// soon as there is room. A kill of the process meanwhile loses them, and the job is found interrupted;
// nothing is lost that was written before.

import { getLogger } from "@logtape/logtape";
import type { EventRow, EventType, JobChange } from "./rows.ts";

const logger = getLogger(["lorapar", "jobs"]);

/** Time between two tries to write. */
export const retryMs = 1000;

/** What all held events may take; past that only changes of status are kept. */
const maxHeldBytes = 2 ** 25;

/** An event that has no number yet. */
export interface NewEvent {
  type: EventType;
  data: unknown;
}

interface HeldJob {
  change: JobChange;
  events: EventRow[];
  /** Events that were not kept, for want of memory. */
  dropped: number;
}

/** An event's JSON text and about what the object around it takes. */
function sizeBytes(json: string): number {
  return json.length + 100;
}

export class HeldWrites {
  readonly #jobs = new Map<string, HeldJob>();
  #bytes = 0;
  #retry: ReturnType<typeof setTimeout> | undefined;

  /** `write` puts a job's change and events on the disk as a whole, or throws. */
  constructor(
    readonly write: (id: string, change: JobChange, events: NewEvent[]) => void,
    readonly maxBytes = maxHeldBytes,
  ) {}

  get ids(): string[] {
    return [...this.#jobs.keys()];
  }

  get(id: string): Readonly<HeldJob> | undefined {
    return this.#jobs.get(id);
  }

  /** Keeps a change and its events; `lastNumber` is the number of the job's last event in the store. */
  add(
    id: string,
    change: JobChange,
    events: NewEvent[],
    lastNumber: number,
    nowSeconds: number,
  ): void {
    const held = this.#jobs.get(id) ?? { change: {}, events: [], dropped: 0 };
    this.#jobs.set(id, held);
    Object.assign(held.change, change);
    for (const { type, data } of events) {
      const text = JSON.stringify(data);
      if (type !== "status" && this.#bytes + sizeBytes(text) > this.maxBytes) {
        held.dropped++;
        continue;
      }
      this.#bytes += sizeBytes(text);
      const number = lastNumber + held.events.length + 1;
      held.events.push({ number, type, created_at: nowSeconds, data: JSON.parse(text) });
    }
    this.#retry ??= setTimeout(() => this.flush(), retryMs);
  }

  delete(id: string): void {
    for (const { data } of this.#jobs.get(id)?.events ?? []) {
      this.#bytes -= sizeBytes(JSON.stringify(data));
    }
    this.#jobs.delete(id);
  }

  /** The change and events to write for a job, or null when nothing of it is held. */
  pending(id: string): [change: JobChange, events: NewEvent[]] | null {
    const held = this.#jobs.get(id);
    if (!held) return null;
    const { change, events, dropped } = held;
    if (dropped === 0) return [change, events];
    const message = `${dropped} events of this job are not kept: the disk was full for too long.`;
    return [change, [...events, { type: "log", data: { level: "warning", message } }]];
  }

  /** Writes what is held, or tries again later. */
  flush(): void {
    this.close();
    try {
      for (const id of this.ids) {
        this.write(id, ...this.pending(id)!);
        this.delete(id);
        logger.info("The state of {id} is written", { id });
      }
    } catch {
      this.#retry = setTimeout(() => this.flush(), retryMs);
    }
  }

  /** Tries no more. */
  close(): void {
    clearTimeout(this.#retry);
    this.#retry = undefined;
  }
}
