// The request of /v1/chat/completions, as OpenAI's clients send it, and the engine's task for it.
// Fields that no answer depends on (user, metadata, store, service_tier, hints such as
// reasoning_effort, and what is unheard of) are dropped when the body is checked. What is not done and
// would change the answer is in the schema with the values that ask for nothing, and refused otherwise.

import { z } from "@hono/zod-openapi";
import type { ChatTask, ModelReference } from "../lib/engine/messages.ts";
import { InvalidRequest } from "../lib/errors.ts";

const content = z.union([
  z.string(),
  z.array(z.object({
    type: z.string().max(100).describe("text; nothing else is read."),
    text: z.string().optional().describe("What the part says."),
  })).max(1000),
]);

/** In the place of what is wanted, in the message of a refusal. */
const error = "this server does not do that, leave the field out";

/** A list that must be empty. */
const noList = z.array(z.unknown()).max(0, { error }).nullish();
const noPenalty = z.literal(0, { error }).nullish();
const noChoice = z.enum(["none", "auto"], { error }).nullish();

/** Fields of OpenAI's that would change the answer if they were done. */
const notDone = {
  logprobs: z.literal(false, { error }).nullish().describe("Not done: false only."),
  top_logprobs: z.literal(0, { error }).nullish().describe("Not done: 0 only."),
  tools: noList.describe("Not done: none only."),
  tool_choice: noChoice.describe("Not done: none and auto, which are the same without tools."),
  functions: noList.describe("Not done: none only."),
  function_call: noChoice.describe("Not done: none and auto only."),
  response_format: z.object({
    type: z.literal("text", { error }).describe("text only."),
  }).nullish().describe("Not done: text only."),
  logit_bias: z.record(z.string(), z.unknown()).refine(
    (bias) => Object.keys(bias).length === 0,
    { error },
  ).openapi({ maxProperties: 0 }).nullish().describe("Not done: an empty object only."),
  frequency_penalty: noPenalty.describe("Not done: 0 only."),
  presence_penalty: noPenalty.describe("Not done: 0 only."),
  modalities: z.array(z.literal("text", { error })).max(1).nullish().describe("text only."),
  audio: z.null({ error }).optional().describe("Not done: null only."),
  web_search_options: z.null({ error }).optional().describe("Not done: null only."),
};

const stop = z.string().min(1).max(1000);
const maxTokens = z.number().int().min(1).max(131072).nullish();

export const chatRequest = z.object({
  model: z.string().min(1).describe("A base or a trained model, as GET /v1/models lists them."),
  messages: z.array(z.object({
    role: z.enum(["system", "developer", "user", "assistant"]).describe(
      "Who speaks; developer counts as system.",
    ),
    content: content.nullable().describe("The text, or parts of type text."),
    tool_calls: noList.describe("Not done: none only."),
    function_call: z.null({ error }).optional().describe("Not done: null only."),
    audio: z.null({ error }).optional().describe("Not done: null only."),
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
  seed: z.number().int().min(Number.MIN_SAFE_INTEGER).max(Number.MAX_SAFE_INTEGER).nullish()
    .describe(
      "The same seed, request and model give the same answer; drawn when left out.",
    ),
  stop: z.union([stop, z.array(stop).max(16)]).nullish().describe(
    "The answer ends before any of these texts.",
  ),
  stream: z.boolean().nullish().describe("Answer in pieces as they come, as server-sent events."),
  stream_options: z.object({
    include_usage: z.boolean().nullish().describe("Count the tokens in a last piece."),
  }).nullish().describe("Of an answer in pieces."),
  ...notDone,
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
