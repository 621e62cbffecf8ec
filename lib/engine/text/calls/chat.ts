// A chat's prompt to tokens, and its choices' tokens to text.

import { InvalidRequest } from "../../../errors.ts";
import type { TextCall } from "../call.ts";
import { continueChoice } from "../choice.ts";
import type { TextCalls } from "../messages.ts";
import { keptTexts, modelTexts } from "../models.ts";
import type { Stage } from "../stage.ts";

type Encode = TextCalls["encode_chat"];
type Decode = TextCalls["decode_chat"];

/**
 * Renders the messages with the model's chat template and encodes them.
 * @throws {InvalidRequest} code "context_length_exceeded" when they leave no room for an answer.
 */
export async function encodeChat(
  { model, messages }: Encode["args"],
  call: TextCall,
): Promise<Encode["result"]> {
  const { tokenizer, config: { maxPositions } } = await modelTexts(model, call);
  call.begin(stageOf(call, `render the messages for ${model.id}`, "messages"));
  const text = tokenizer.renderChat(messages, { addGenerationPrompt: true });
  call.begin(stageOf(call, `tokenize the messages for ${model.id}`, "messages"));
  const tokens = tokenizer.encodeRendered(text, { upTo: maxPositions });
  if (tokens.length < maxPositions) {
    return { tokens: Uint32Array.from(tokens), eosTokens: [...tokenizer.eosTokens] };
  }
  throw new InvalidRequest(
    `Cannot answer: the messages have ${text.length} characters, at least ${tokens.length} tokens; ` +
      `${model.id} takes ${maxPositions} with the answer. Shorten them.`,
    "messages",
    "context_length_exceeded",
  );
}

/** The text that new tokens bring, choice by choice. */
export async function decodeChat(
  { model, stop, choices }: Decode["args"],
  call: TextCall,
): Promise<Decode["result"]> {
  const { tokenizer } = await keptTexts(model, call);
  call.begin(stageOf(call, `decode the answer of ${model.id}`, "model"));
  return choices.map((choice) => {
    call.progress();
    return continueChoice(tokenizer, choice, stop);
  });
}

function stageOf({ limits }: TextCall, doing: string, param: string): Stage {
  return {
    doing,
    source: "request",
    param,
    limitMs: limits.chatMs,
    advice:
      "Shorten the messages; if short ones fail too, the model's tokenizer or chat template is " +
      "at fault: use another model.",
  };
}
