// Ids of files, jobs, partitions and adapters: a prefix and 26 characters of Crockford's base 32,
// 10 for the time in milliseconds and 16 random ones, so that ids sort by the time they were made
// (the ULID layout, lower case). An id from a request is checked before anything is looked up.

const digits = "0123456789abcdefghjkmnpqrstvwxyz";
const pattern = /^(file|job|part|adapter)-[0-9a-hjkmnp-tv-z]{26}$/;

/** Names one HTTP request in answers and the log; never stored. */
export function newRequestId(): string {
  return `req-${crypto.randomUUID().replaceAll("-", "")}`;
}

export type IdPrefix = "file" | "job" | "part" | "adapter";

/** A new id, e.g. `job-01k3x…`. */
export function newId(prefix: IdPrefix, nowMs = Date.now()): string {
  let time = "";
  for (let rest = nowMs, i = 0; i < 10; i++, rest = Math.floor(rest / 32)) {
    time = digits[rest % 32] + time;
  }
  const random = crypto.getRandomValues(new Uint8Array(16));
  return `${prefix}-${time}${Array.from(random, (byte) => digits[byte % 32]).join("")}`;
}

/** Whether `text` is an id of ours with this prefix. */
export function isId(prefix: IdPrefix, text: string): boolean {
  return pattern.test(text) && text.startsWith(`${prefix}-`);
}
