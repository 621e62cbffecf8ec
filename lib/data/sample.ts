// A record in one of four shapes (API.md, "Files in") as a sample: `messages`, `prompt/completion`,
// `question/answer`, `instruction/input?/output`; `system` may carry the label. Every field is kept in
// `item`. Left out on purpose: tool calls and images.

import { parseJson } from "../json_text.ts";
import type { Message, Sample, System } from "./record.ts";

/** Makes the error that says where a record stands, e.g. "Cannot use line 3: " and `what`. */
export type FailRecord = (what: string) => Error;

/** The sample in a record. @throws what `fail` makes, naming the field */
export function toSample(record: unknown, fail: FailRecord): Sample {
  if (typeof record !== "object" || record === null || Array.isArray(record)) {
    throw fail(`it is ${found(record)}, wanted an object`);
  }
  const item = record as Record<string, unknown>;
  const system = label(item.system, fail);
  const has = (name: string) => item[name] !== undefined && item[name] !== null;

  if (has("messages")) {
    const messages = conversation(item.messages, "messages", fail);
    const last = messages.at(-1)!;
    const answered = last.role === "assistant";
    const prompt = answered ? messages.slice(0, -1) : messages;
    if (prompt.length === 0) {
      throw fail(
        'field "messages" holds only an assistant message, wanted what it answers before it',
      );
    }
    const answer = answered ? nonEmpty(last.content) : text(item, "answer", fail);
    return { prompt, answer, system, item };
  }
  if (has("prompt")) {
    const prompt = typeof item.prompt === "string"
      ? user(wantedText(item, "prompt", fail))
      : conversation(item.prompt, "prompt", fail);
    // A record for RL has no completion to learn, only an answer to compare with.
    const answer = has("completion") ? completion(item, fail) : text(item, "answer", fail);
    return { prompt, answer, system, item };
  }
  if (has("question")) {
    const prompt = user(wantedText(item, "question", fail));
    return { prompt, answer: text(item, "answer", fail), system, item };
  }
  if (has("instruction")) {
    const instruction = wantedText(item, "instruction", fail);
    const input = text(item, "input", fail);
    const prompt = user(input === null ? instruction : `${instruction}\n${input}`);
    return { prompt, answer: text(item, "output", fail), system, item };
  }
  const fields = Object.keys(item).slice(0, 20).map(found).join(", ") || "none";
  throw fail(
    `its fields are ${fields}, wanted "messages", "prompt" and "completion", "question" and "answer", or "instruction" and "output"`,
  );
}

/** A sample in an error, by how its question begins and, where it is known, by its number from 1. */
export function sampleName({ prompt }: Sample, number?: number): string {
  const question = prompt.at(-1)?.content ?? "";
  const start = JSON.stringify(question.length > 60 ? `${question.slice(0, 57)}...` : question);
  return number === undefined ? `the sample ${start}` : `sample ${number} (${start})`;
}

function label(value: unknown, fail: FailRecord): System | null {
  // "undecided" is what our own classification writes where the tie rule says so.
  if (value === undefined || value === null || value === "" || value === "undecided") return null;
  if (value === "system1" || value === "system2") return value;
  throw fail(`field "system" is ${found(value)}, wanted "system1", "system2" or no such field`);
}

function user(content: string): Message[] {
  return [{ role: "user", content }];
}

/** Text that is there and not blank. */
function wantedText(item: Record<string, unknown>, name: string, fail: FailRecord): string {
  const value = text(item, name, fail);
  if (value === null) throw fail(`field "${name}" is empty, wanted text`);
  return value;
}

/** A field's text; null when it is absent or blank. A number counts as its digits. */
function text(item: Record<string, unknown>, name: string, fail: FailRecord): string | null {
  const value = item[name];
  if (value === undefined || value === null) return null;
  if (typeof value === "number") {
    // JSON's readers round such a number, and an answer would be another one.
    if (Math.abs(value) <= Number.MAX_SAFE_INTEGER) return String(value);
    throw fail(`field "${name}" is a number of more than 53 bits, write it in quotes`);
  }
  if (typeof value !== "string") throw fail(`field "${name}" is ${found(value)}, wanted text`);
  return nonEmpty(wellFormed(value, `field "${name}"`, fail));
}

/** A text that UTF-8 can hold. */
function wellFormed(value: string, place: string, fail: FailRecord): string {
  if (value.isWellFormed()) return value;
  throw fail(`${place} holds half of a surrogate pair, wanted Unicode text`);
}

function nonEmpty(value: string): string | null {
  return value.trim() === "" ? null : value;
}

/** TRL writes a conversation's completion as a list of one assistant message. */
function completion(item: Record<string, unknown>, fail: FailRecord): string | null {
  if (!Array.isArray(item.completion)) return text(item, "completion", fail);
  const messages = conversation(item.completion, "completion", fail);
  if (messages.length !== 1 || messages[0].role !== "assistant") {
    const roles = messages.slice(0, 5).map(({ role }) => role).join(", ");
    throw fail(`field "completion" has messages of ${roles}, wanted one of the assistant`);
  }
  return nonEmpty(messages[0].content);
}

/** A list of messages; CSV cells hold it as JSON text. */
function conversation(value: unknown, name: string, fail: FailRecord): Message[] {
  let list = value;
  if (typeof value === "string") {
    try {
      list = parseJson(value);
    } catch {
      throw fail(`field "${name}" is text that is not JSON, wanted a list of messages`);
    }
  }
  if (!Array.isArray(list)) throw fail(`field "${name}" is ${found(list)}, wanted a list`);
  if (list.length === 0) throw fail(`field "${name}" is an empty list, wanted a message`);
  return list.map((message, index) => {
    const place = `field "${name}[${index}]`;
    if (typeof message !== "object" || message === null) {
      throw fail(`${place}" is ${found(message)}, wanted {role, content}`);
    }
    const { role, content } = message as Record<string, unknown>;
    if (role !== "system" && role !== "user" && role !== "assistant") {
      throw fail(`${place}.role" is ${found(role)}, wanted "system", "user" or "assistant"`);
    }
    if (typeof content !== "string") {
      throw fail(`${place}.content" is ${found(content)}, wanted text`);
    }
    return { role, content: wellFormed(content, `${place}.content"`, fail) };
  });
}

/** What a value is, for a message. */
function found(value: unknown): string {
  if (value === undefined) return "missing";
  if (value === null) return "null";
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object") return "an object";
  if (typeof value === "string") {
    return JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}…` : value);
  }
  return `the ${typeof value} ${value}`;
}
