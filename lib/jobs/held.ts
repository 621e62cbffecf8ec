// What a job's row and events should say while the disk is full: changes and events that could not be
// written, kept in memory in their order until there is room. The store shows them as if they were rows
// and writes them as soon as it can. A kill of the process meanwhile loses them, and the job is found
// interrupted; nothing is lost that was written before.

import type { EventRow, EventType, JobChange } from "./rows.ts";

interface HeldJob {
  change: JobChange;
  events: EventRow[];
  /** Events that were not kept, for want of memory. */
  dropped: number;
}

/** What all held events may take; past that only changes of status are kept. */
const maxHeldBytes = 2 ** 25;

/** An event's JSON text and about what the object around it takes. */
function sizeBytes(json: string): number {
  return json.length + 100;
}

/** An event that has no number yet. */
export interface NewEvent {
  type: EventType;
  data: unknown;
}

export class HeldWrites {
  readonly #jobs = new Map<string, HeldJob>();
  #bytes = 0;

  constructor(readonly maxBytes = maxHeldBytes) {}

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
  }

  delete(id: string): void {
    for (const { data } of this.#jobs.get(id)?.events ?? []) {
      this.#bytes -= sizeBytes(JSON.stringify(data));
    }
    this.#jobs.delete(id);
  }
}
