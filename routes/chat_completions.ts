// POST /v1/chat/completions in OpenAI's shape, whole or as a stream of chunks ending in [DONE].
// It does not wait for the running job: the engine takes turns between the two.

import { z } from "@hono/zod-openapi";
import type { ChatResult, ChatTask } from "../lib/engine/messages.ts";
import { nowSeconds } from "../lib/jobs/store.ts";
import { limitedChats, type RunChat } from "./chat_limit.ts";
import { chatRequest, chatTask } from "./chat_request.ts";
import type { AppDeps } from "./deps.ts";
import { errorBody } from "./errors.ts";
import { jsonBody, newRouter, route } from "./schemas.ts";
import { sseResponse, type SseWriter } from "./sse.ts";

const usageSchema = z.object({
  prompt_tokens: z.number().int(),
  completion_tokens: z.number().int(),
  total_tokens: z.number().int(),
});

const completionSchema = z.object({
  id: z.string(),
  object: z.literal("chat.completion"),
  created: z.number().int(),
  model: z.string(),
  choices: z.array(z.object({
    index: z.number().int(),
    message: z.object({
      role: z.literal("assistant"),
      content: z.string(),
      refusal: z.null(),
    }),
    logprobs: z.null(),
    finish_reason: z.enum(["stop", "length"]),
  })),
  usage: usageSchema,
}).openapi("ChatCompletion");

const chatRoute = route({
  method: "post",
  path: "/v1/chat/completions",
  operationId: "createChatCompletion",
  tags: ["openai"],
  summary: "Chat with a base or a trained model",
  request: {
    body: jsonBody(chatRequest, {
      model: "lorapar-tiny",
      messages: [{ role: "user", content: "What is 7 + 8?" }],
      temperature: 0,
    }),
  },
  responses: {
    200: {
      description: "The completion; with stream=true, chunks as server-sent events, then [DONE].",
      content: {
        "application/json": { schema: completionSchema },
        "text/event-stream": { schema: { type: "string" } },
      },
    },
  },
});

function usageOf(result: ChatResult): z.infer<typeof usageSchema> {
  const completion = result.choices.reduce((sum, choice) => sum + choice.tokens, 0);
  return {
    prompt_tokens: result.promptTokens,
    completion_tokens: completion,
    total_tokens: result.promptTokens + completion,
  };
}

interface Head {
  id: string;
  created: number;
  model: string;
}

/**
 * Runs the chat and answers its chunks as they come. The answer begins with the first token, so
 * that a request that fails before it gets a status of its own.
 */
async function stream(
  { shutdown }: AppDeps,
  run: RunChat,
  task: ChatTask,
  head: Head,
  includeUsage: boolean,
  clientSignal: AbortSignal,
): Promise<Response> {
  const pending: { index: number; text: string }[] = [];
  const stop = new AbortController();
  let wake = Promise.withResolvers<void>();
  const tell = () => {
    wake.resolve();
    wake = Promise.withResolvers();
  };
  let result: ChatResult | null = null;
  let failure: unknown = null;
  const begun = wake.promise;
  // Until the answer begins the request tells that the client left, afterwards the stream does.
  const leave = () => stop.abort();
  clientSignal.addEventListener("abort", leave);
  const signal = AbortSignal.any([stop.signal, shutdown]);
  run(task, (event) => {
    if (event.type !== "delta") return;
    pending.push({ index: event.index, text: event.text });
    tell();
  }, signal).then((value) => result = value, (error) => failure = error).finally(tell);
  await begun;
  clientSignal.removeEventListener("abort", leave);
  if (failure && pending.length === 0) throw failure;

  const chunk = (choices: unknown[], usage: unknown = null) =>
    JSON.stringify({
      ...head,
      object: "chat.completion.chunk",
      choices,
      ...(includeUsage ? { usage } : {}),
    });
  const choice = (index: number, delta: Record<string, string>, finish: string | null = null) =>
    chunk([{ index, delta, logprobs: null, finish_reason: finish }]);

  const write = async (sse: SseWriter) => {
    sse.signal.addEventListener("abort", () => {
      stop.abort();
      tell();
    });
    for (let index = 0; index < task.n; index++) {
      await sse.event(choice(index, { role: "assistant", content: "" }));
    }
    while (!sse.signal.aborted) {
      const next = wake.promise;
      const ended = result !== null || failure !== null;
      for (const { index, text } of pending.splice(0)) {
        await sse.event(choice(index, { content: text }));
      }
      if (ended) break;
      await next;
    }
    if (failure) return await sse.event(JSON.stringify(errorBody(failure)));
    const whole = result as ChatResult | null;
    if (!whole) return;
    for (const { index, finishReason } of whole.choices) {
      await sse.event(choice(index, {}, finishReason));
    }
    if (includeUsage) await sse.event(chunk([], usageOf(whole)));
    await sse.event("[DONE]");
  };
  return sseResponse(write, shutdown);
}

export function chatCompletionsRoutes(deps: AppDeps) {
  const { models, engine, config } = deps;
  const run = limitedChats(engine, config.limits.max_chats);
  return newRouter().openapi(chatRoute, async (c) => {
    const request = c.req.valid("json");
    const { reference } = await models.get(request.model);
    const task = chatTask(request, reference, config.limits.default_max_tokens);
    const head = {
      id: `chatcmpl-${crypto.randomUUID()}`,
      created: nowSeconds(),
      model: request.model,
    };
    if (request.stream) {
      const includeUsage = request.stream_options?.include_usage ?? false;
      return await stream(deps, run, task, head, includeUsage, c.req.raw.signal);
    }
    const signal = AbortSignal.any([c.req.raw.signal, deps.shutdown]);
    const result = await run(task, undefined, signal);
    return c.json({
      ...head,
      object: "chat.completion" as const,
      choices: result.choices.map(({ index, text, finishReason }) => ({
        index,
        message: { role: "assistant" as const, content: text, refusal: null },
        logprobs: null,
        finish_reason: finishReason,
      })),
      usage: usageOf(result),
    }, 200);
  });
}
