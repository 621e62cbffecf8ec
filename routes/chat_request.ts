// The request of /v1/chat/completions, as OpenAI's clients send it, and the engine's task for it.
// What OpenAI accepts and this server has no use for is accepted and ignored, as the contract says;
// content that is not text is refused, since ignoring it would change the meaning.

import { z } from "@hono/zod-openapi";
import type { ChatTask, ModelReference } from "../lib/engine/messages.ts";
import { InvalidRequest } from "../lib/errors.ts";

const content = z.union([
  z.string(),
  z.array(z.looseObject({ type: z.string(), text: z.string().optional() })),
]);

export const chatRequest = z.looseObject({
  model: z.string().min(1),
  messages: z.array(z.looseObject({
    role: z.enum(["system", "developer", "user", "assistant"]),
    content: content.nullable(),
  })).min(1).max(10_000),
  max_tokens: z.number().int().min(1).max(131072).nullish(),
  max_completion_tokens: z.number().int().min(1).max(131072).nullish(),
  temperature: z.number().min(0).max(10).nullish(),
  top_p: z.number().positive().max(1).nullish(),
  /** Beyond OpenAI's, as in TRL and vLLM; 0 turns either off. */
  top_k: z.number().int().min(0).nullish(),
  min_p: z.number().min(0).max(1).nullish(),
  n: z.number().int().min(1).max(128).nullish(),
  seed: z.number().int().min(-(2 ** 53)).max(2 ** 53).nullish(),
  stop: z.union([z.string().min(1), z.array(z.string().min(1)).max(16)]).nullish(),
  stream: z.boolean().nullish(),
  stream_options: z.looseObject({ include_usage: z.boolean().optional() }).nullish(),
});
export type ChatRequest = z.infer<typeof chatRequest>;

function textOf(
  content: z.infer<typeof chatRequest>["messages"][number]["content"],
  param: string,
) {
  if (typeof content === "string") return content;
  return (content ?? []).map((part, index) => {
    if (part.type === "text" && part.text !== undefined) return part.text;
    throw new InvalidRequest(
      `Cannot read content of the type "${part.type}": this server reads text only.`,
      `${param}[${index}].type`,
    );
  }).join("");
}

/** The engine's task; a seed that is left out is drawn. */
export function chatTask(
  request: ChatRequest,
  model: ModelReference,
  defaultMaxTokens: number,
): ChatTask {
  const seed = request.seed ?? crypto.getRandomValues(new Uint32Array(1))[0]!;
  return {
    kind: "chat",
    model,
    messages: request.messages.map(({ role, content }, index) => ({
      role: role === "developer" ? "system" : role,
      content: textOf(content, `messages[${index}].content`),
    })),
    maxTokens: request.max_completion_tokens ?? request.max_tokens ?? defaultMaxTokens,
    temperature: request.temperature ?? 1,
    topP: request.top_p ?? 1,
    topK: request.top_k ?? 0,
    minP: request.min_p ?? 0,
    seed: Number(BigInt.asUintN(32, BigInt(seed))),
    stop: typeof request.stop === "string" ? [request.stop] : request.stop ?? [],
    n: request.n ?? 1,
  };
}
