// Ids of files, jobs, partitions and adapters: a prefix and a ULID in lower case, so that ids sort by the
// millisecond they were made in; what must be in exact order is ordered by the store. An id from a
// request is checked before anything is looked up.

import { ulid } from "ulid";

const pattern = /^(file|job|part|adapter)-[0-7][0-9a-hjkmnp-tv-z]{25}$/;

/** Names one HTTP request in answers and the log; never stored. */
export function newRequestId(): string {
  return `req-${crypto.randomUUID().replaceAll("-", "")}`;
}

export type IdPrefix = "file" | "job" | "part" | "adapter";

/** A new id, e.g. `job-01k3x…`. */
export function newId(prefix: IdPrefix, nowMs = Date.now()): string {
  return `${prefix}-${ulid(nowMs).toLowerCase()}`;
}

/** Whether `text` is an id of ours with this prefix. */
export function isId(prefix: IdPrefix, text: string): boolean {
  return pattern.test(text) && text.startsWith(`${prefix}-`);
}
