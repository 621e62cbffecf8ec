// Teachers: models that are asked for votes. One behind an OpenAI-compatible server is asked here, over
// `POST {base_url}/chat/completions`, several prompts at a time, with bounded retries; a local model
// comes from the engine, which generates in batches. A server is reached only when its host is on the
// allow-list (teacher_address.ts), and a redirect is refused, so that no request leads where the list
// does not. What a server answers is never quoted in an error: it may be an internal service's page.
// Left out on purpose: streaming, and other protocols.

import { Cancelled, InvalidRequest } from "../errors.ts";
import type { Message } from "../data/record.ts";
import { deriveSeed } from "../seeds.ts";
import type { TeacherSettings } from "./settings.ts";
import { teacherAddress } from "./teacher_address.ts";

export interface Teacher {
  name: string;
  /** Local models share one GPU and are asked one after the other; servers all at once. */
  local: boolean;
  /**
   * The raw replies to all prompts, in order; `onReply` is told of each as it comes.
   * @throws {InvalidRequest} when the teacher cannot be asked, {Cancelled} when `signal` aborts.
   */
  voteAll(
    prompts: Message[][],
    seed: number,
    onReply?: (index: number, reply: string) => void,
    signal?: AbortSignal,
  ): Promise<string[]>;
}

export interface HttpTeacherOptions {
  /** The field that named it, e.g. `teachers[1]`; it reaches the errors. */
  param: string;
  /** Entries of `teacher_hosts`: a host (`127.0.0.1`), or a host and a port (`127.0.0.1:8000`). */
  allowedHosts: string[];
  apiKey?: string | null;
  /** Requests under way at a time. */
  concurrency?: number;
  /** Requests for one prompt, the first included. */
  maxTries?: number;
  timeoutMs?: number;
  /** Wait before the first retry; it doubles each time. A server's Retry-After is heeded up to 30 s. */
  backoffMs?: number;
  /** Room for a reply; one that thinks aloud needs some. */
  maxTokens?: number;
}

const maxReplyBytes = 2 ** 20;
const maxWaitMs = 30_000;

/**
 * A teacher behind an OpenAI-compatible server.
 * @throws {InvalidRequest} when its base_url is missing, not http(s), carries a password, or names a
 * host that is not allowed.
 */
export function httpTeacher(settings: TeacherSettings, options: HttpTeacherOptions): Teacher {
  const {
    param,
    apiKey = null,
    concurrency = 8,
    maxTries = 3,
    timeoutMs = 120_000,
    backoffMs = 500,
    maxTokens = 512,
  } = options;
  const url = endpoint(settings, options);

  async function vote(prompt: Message[], seed: number, signal: AbortSignal): Promise<string> {
    for (let attempt = 1;; attempt++) {
      const answer = await request(prompt, seed, signal);
      if ("reply" in answer) return answer.reply;
      if (!answer.retry || attempt >= maxTries) {
        const tries = attempt === 1 ? "1 try" : `${attempt} tries`;
        throw new InvalidRequest(
          `Cannot ask teacher "${settings.name}" at ${url}: ${answer.problem} (after ${tries}). ` +
            "Check that the server runs, the teacher's base_url and model, and its key in teacher_keys.",
          `${param}.base_url`,
          "teacher_unavailable",
        );
      }
      await pause(Math.min(maxWaitMs, answer.waitMs ?? backoffMs * 2 ** (attempt - 1)), signal);
    }
  }

  async function request(
    prompt: Message[],
    seed: number,
    signal: AbortSignal,
  ): Promise<
    { reply: string } | { problem: string; retry: boolean; waitMs?: number }
  > {
    const stop = new AbortController();
    const onAbort = () => stop.abort();
    signal.addEventListener("abort", onAbort);
    const timer = setTimeout(() => stop.abort(), timeoutMs);
    try {
      if (signal.aborted) throw cancelled();
      const response = await fetch(url, {
        method: "POST",
        redirect: "manual",
        signal: stop.signal,
        headers: {
          "content-type": "application/json",
          ...(apiKey ? { authorization: `Bearer ${apiKey}` } : {}),
        },
        body: JSON.stringify({
          model: settings.model,
          messages: prompt,
          temperature: settings.temperature,
          seed,
          max_tokens: maxTokens,
        }),
      });
      const { status } = response;
      if (status >= 300 && status < 400) {
        await response.body?.cancel();
        return { problem: `it answers ${status}, a redirect, which is refused`, retry: false };
      }
      const { text, sizeBytes } = await readLimited(response);
      if (!response.ok) {
        const seconds = Number(response.headers.get("retry-after") ?? NaN);
        return {
          problem: `it answers ${status} with ${sizeBytes} bytes`,
          retry: status === 408 || status === 409 || status === 429 || status >= 500,
          waitMs: Number.isFinite(seconds) && seconds >= 0 ? seconds * 1000 : undefined,
        };
      }
      const reply = content(text);
      return reply === null
        ? { problem: `no choices[0].message.content in its ${sizeBytes} bytes`, retry: false }
        : { reply };
    } catch (error) {
      if (signal.aborted) throw cancelled();
      const problem = stop.signal.aborted
        ? `no answer within ${timeoutMs / 1000} s`
        : (error as Error).message;
      return { problem, retry: true };
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
    }
  }

  return {
    name: settings.name,
    local: false,
    async voteAll(prompts, seed, onReply, signal) {
      const replies = new Array<string>(prompts.length);
      // The first failure ends the other requests too.
      const failed = new AbortController();
      const stop = AbortSignal.any([failed.signal, ...(signal ? [signal] : [])]);
      let next = 0;
      async function work() {
        while (next < prompts.length) {
          const index = next++;
          replies[index] = await vote(prompts[index], deriveSeed(seed, "batch", index) >>> 1, stop);
          onReply?.(index, replies[index]);
        }
      }
      let failure: unknown = null;
      const workers = Array.from(
        { length: Math.min(concurrency, prompts.length) },
        () =>
          work().catch((error) => {
            failure ??= error;
            failed.abort();
          }),
      );
      await Promise.all(workers);
      if (failure !== null) throw failure;
      return replies;
    },
  };
}

/** Where to send requests, once the address is known to be allowed. */
function endpoint(settings: TeacherSettings, { param, allowedHosts }: HttpTeacherOptions): string {
  const url = teacherAddress(settings.base_url ?? "", allowedHosts, `${param}.base_url`);
  url.pathname = url.pathname.replace(/\/+$/, "") + "/chat/completions";
  return url.href;
}

/** The reply in a completion; null when the text is no completion. */
function content(text: string): string | null {
  try {
    const message = JSON.parse(text).choices[0].message;
    return typeof message.content === "string"
      ? message.content
      : message.content === null
      ? ""
      : null;
  } catch {
    return null;
  }
}

async function readLimited(response: Response): Promise<{ text: string; sizeBytes: number }> {
  const decoder = new TextDecoder();
  let text = "", sizeBytes = 0;
  for await (const piece of response.body ?? []) {
    sizeBytes += piece.length;
    if (sizeBytes > maxReplyBytes) throw new Error(`its answer exceeds ${maxReplyBytes} bytes`);
    text += decoder.decode(piece, { stream: true });
  }
  return { text: text + decoder.decode(), sizeBytes };
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = () => {
      clearTimeout(timer);
      reject(cancelled());
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", onAbort);
      resolve();
    }, ms);
    signal.addEventListener("abort", onAbort, { once: true });
  });
}

function cancelled(): Cancelled {
  return new Cancelled("The classification was cancelled");
}
