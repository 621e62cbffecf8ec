// One chat completion (or n of them). Generation takes turns of a few tokens, so a chat and a training
// job slow each other down but never wait for each other's end.

import { InvalidRequest } from "../../errors.ts";
import { generate, type GenerateRequest } from "../../model/generate.ts";
import type { ChatTokenizer, StreamDecoder } from "../../model/tokenizer.ts";
import type { GpuContext } from "../context.ts";
import type { ChatResult, ChatTask } from "../messages.ts";
import { withPolicy } from "../policy.ts";

export function chat(context: GpuContext, task: ChatTask): Promise<ChatResult> {
  return withPolicy(context, task.model, async (policy) => {
    const { tokenizer, config } = policy.source;
    const prompt = tokenizer.encodeChat(task.messages, { addGenerationPrompt: true });
    const room = config.maxPositions - prompt.length;
    if (room < 1) {
      throw new InvalidRequest(
        `Cannot answer: the messages have ${prompt.length} tokens, ${task.model.id} takes ` +
          `${config.maxPositions}. Shorten them.`,
        "messages",
        "context_length_exceeded",
      );
    }
    const request: GenerateRequest = {
      prompts: [Uint32Array.from(prompt)],
      completionsPerPrompt: task.n,
      maxNewTokens: Math.min(task.maxTokens, room),
      temperature: task.temperature,
      topK: task.topK,
      topP: task.topP,
      minP: task.minP,
      seed: task.seed,
      eosTokens: config.eosTokens,
    };
    const choices = Array.from({ length: task.n }, () => new Choice(tokenizer, task.stop));
    const sampled = await generate(context.gpu, policy, request, {
      checkCancelled: context.checkCancelled,
      turn: context.turns.take,
      stepsPerRead: 4,
      onTokens: (row, tokens) => {
        const text = choices[row].push(tokens);
        if (text) context.emit({ type: "delta", index: row, text });
        return !choices[row].stopped;
      },
    });
    return {
      promptTokens: prompt.length,
      choices: choices.map((choice, index) => {
        const rest = choice.flush();
        if (rest) context.emit({ type: "delta", index, text: rest });
        return {
          index,
          text: choice.text,
          finishReason: sampled[index].finished || choice.stopped ? "stop" : "length",
          tokens: sampled[index].tokens.length,
        };
      }),
    };
  });
}

/** The text of one completion, cut before the first stop sequence. */
class Choice {
  text = "";
  stopped = false;
  #decoder: StreamDecoder;
  /** Decoded, but it may be the beginning of a stop sequence. */
  #held = "";

  constructor(tokenizer: ChatTokenizer, private stops: string[]) {
    this.#decoder = tokenizer.streamDecoder();
  }

  /** Takes new tokens and answers the text that is certain by now. */
  push(tokens: Iterable<number>): string {
    if (this.stopped) return "";
    for (const token of tokens) this.#held += this.#decoder.push(token);
    const cut = Math.min(
      ...this.stops.map((stop) => this.#held.indexOf(stop)).filter((i) => i >= 0),
    );
    if (Number.isFinite(cut)) {
      this.stopped = true;
      return this.#give(cut);
    }
    const most = Math.max(0, ...this.stops.map((stop) => stop.length - 1));
    let keep = Math.min(most, this.#held.length);
    while (keep > 0 && !this.stops.some((stop) => stop.startsWith(this.#held.slice(-keep)))) keep--;
    return this.#give(this.#held.length - keep);
  }

  /** The rest, at the end. */
  flush(): string {
    if (this.stopped) return "";
    this.#held += this.#decoder.flush();
    return this.#give(this.#held.length);
  }

  #give(length: number): string {
    const text = this.#held.slice(0, length);
    this.#held = this.#held.slice(length);
    this.text += text;
    return text;
  }
}
