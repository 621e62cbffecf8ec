// One chat completion (or n of them). Generation takes turns of a few tokens, so a chat and a training
// job slow each other down but never wait for each other's end.

import { generate, type GenerateRequest } from "../../model/generate.ts";
import type { TaskContext } from "../context.ts";
import type { ChatResult, ChatTask } from "../messages.ts";
import { withPolicy } from "../policy.ts";
import { ChatStream } from "./chat_stream.ts";

export async function chat(context: TaskContext, task: ChatTask): Promise<ChatResult> {
  const { texts, turns, checkCancelled } = context;
  const { id, path } = task.model;
  const model = { id, path };
  const { tokens: prompt, eosTokens } = await texts.call("encode_chat", {
    model,
    messages: task.messages,
  });
  const onGpu = await context.device();
  return await withPolicy(onGpu, task.model, async (policy) => {
    const { config } = policy.source;
    const request: GenerateRequest = {
      prompts: [prompt],
      completionsPerPrompt: task.n,
      maxNewTokens: Math.min(task.maxTokens, config.maxPositions - prompt.length),
      temperature: task.temperature,
      topK: task.topK,
      topP: task.topP,
      minP: task.minP,
      seed: task.seed,
      eosTokens,
    };
    const stream = new ChatStream({
      texts,
      model,
      n: task.n,
      stop: task.stop,
      onText: (index, text) => context.emit({ type: "delta", index, text }),
    });
    const sampled = await generate(onGpu.gpu, policy, request, {
      checkCancelled,
      turn: turns.take,
      stepsPerRead: 4,
      onTokens: (index, tokens) => stream.push(index, tokens),
    });
    const choices = await stream.end();
    return {
      promptTokens: prompt.length,
      choices: choices.map(({ text, stopped, tokens }, index) => ({
        index,
        text,
        finishReason: sampled[index].finished || stopped ? "stop" : "length",
        tokens,
      })),
    };
  });
}
