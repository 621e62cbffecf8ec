// The request of /v1/chat/completions, as OpenAI's clients send it, and the engine's task for it.
// What OpenAI accepts and this server has no use for is accepted and ignored, as the contract says;
// content that is not text is refused, since ignoring it would change the meaning.

import { z } from "@hono/zod-openapi";
import type { ChatTask, ModelReference } from "../lib/engine/messages.ts";
import { InvalidRequest } from "../lib/errors.ts";

const content = z.union([
  z.string(),
  z.array(z.looseObject({
    type: z.string().describe("text; nothing else is read."),
    text: z.string().optional().describe("What the part says."),
  })),
]);

const maxTokens = z.number().int().min(1).max(131072).nullish();

export const chatRequest = z.looseObject({
  model: z.string().min(1).describe("A base or a trained model, as GET /v1/models lists them."),
  messages: z.array(z.looseObject({
    role: z.enum(["system", "developer", "user", "assistant"]).describe(
      "Who speaks; developer counts as system.",
    ),
    content: content.nullable().describe("The text, or parts of type text."),
  })).min(1).max(10_000).describe("The conversation so far."),
  max_tokens: maxTokens.describe("Tokens of the longest answer; max_completion_tokens goes first."),
  max_completion_tokens: maxTokens.describe("Tokens of the longest answer."),
  temperature: z.number().min(0).max(10).nullish().describe("1 when left out; 0 is greedy."),
  top_p: z.number().positive().max(1).nullish().describe(
    "Sample among the likeliest tokens that hold this much probability; 1 turns it off.",
  ),
  top_k: z.number().int().min(0).max(1_000_000).nullish().describe(
    "Sample among so many of the likeliest tokens, as in TRL and vLLM; 0 turns it off.",
  ),
  min_p: z.number().min(0).max(1).nullish().describe(
    "Sample among tokens at least this times as likely as the likeliest; 0 turns it off.",
  ),
  n: z.number().int().min(1).max(128).nullish().describe("Answers to the same conversation."),
  seed: z.number().int().min(-(2 ** 53)).max(2 ** 53).nullish().describe(
    "The same seed, request and model give the same answer; drawn when left out.",
  ),
  stop: z.union([z.string().min(1), z.array(z.string().min(1)).max(16)]).nullish().describe(
    "The answer ends before any of these texts.",
  ),
  stream: z.boolean().nullish().describe("Answer in pieces as they come, as server-sent events."),
  stream_options: z.looseObject({
    include_usage: z.boolean().optional().describe("Count the tokens in a last piece."),
  }).nullish().describe("Of an answer in pieces."),
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
