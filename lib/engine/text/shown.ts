// What an event shows of a sample. Records are the user's and may hold megabytes; an event is kept for
// each of thousands of rollouts and sent to every listener, so long texts are cut there.

import type { Sample } from "../../data/record.ts";
import type { ShownSample } from "../../train/grpo_batches.ts";

/** Characters of one text, and of a record in all. */
const maxText = 10_000, maxRecord = 20_000;

/** A sample's prompt and answer, each text cut to 10,000 characters. */
export function showSample({ prompt, answer }: Sample): ShownSample {
  return {
    prompt: prompt.map(({ role, content }) => ({ role, content: cut(content, maxText) })),
    answer: answer === null ? null : cut(answer, maxText),
  };
}

/** A record with its first 20,000 characters; what follows is left out. */
export function showRecord(record: Record<string, unknown>): Record<string, unknown> {
  let left = maxRecord;
  function show(value: unknown): unknown {
    if (typeof value === "string") {
      const text = cut(value, left);
      left -= text.length;
      return text;
    }
    left--;
    if (Array.isArray(value)) {
      const items: unknown[] = [];
      for (let i = 0; i < value.length && left > 0; i++) items.push(show(value[i]));
      return items;
    }
    if (typeof value !== "object" || value === null) return value;
    return fields(value);
  }
  function fields(value: object): Record<string, unknown> {
    const shown: [string, unknown][] = [];
    for (const [name, inner] of Object.entries(value)) {
      if (left <= 0) break;
      left -= name.length;
      shown.push([name, show(inner)]);
    }
    return Object.fromEntries(shown);
  }
  return fields(record);
}

function cut(text: string, length: number): string {
  return text.length > length ? `${text.slice(0, Math.max(0, length))}…` : text;
}
