// Chat templates: Jinja as Transformers renders it (trim_blocks and lstrip_blocks on, special tokens,
// raise_exception and strftime_now in scope); jinja/interpreter.ts is the engine.

import { InvalidFile, InvalidRequest } from "../errors.ts";
import { render } from "./jinja/interpreter.ts";
import { parseTemplate } from "./jinja/syntax.ts";
import { reason } from "./positioned_file.ts";

export interface ChatMessage {
  role: string;
  content: string;
}

/** The text of a conversation, ending where the assistant begins when a prompt is asked for. */
export type ChatRenderer = (
  messages: readonly ChatMessage[],
  addGenerationPrompt: boolean,
) => string;

/**
 * Compiles a Jinja chat template.
 * @param specialTokens names as in tokenizer_config.json, e.g. `{bos_token: "<s>", eos_token: "</s>"}`
 * @throws {InvalidFile} when the template does not parse
 */
export function compileChatTemplate(
  source: string,
  specialTokens: Record<string, string>,
  where: string,
): ChatRenderer {
  let template: ReturnType<typeof parseTemplate>;
  try {
    template = parseTemplate(source);
  } catch (error) {
    throw new InvalidFile(`Cannot use the chat template of ${where}: ${reason(error)}`);
  }
  return (messages, addGenerationPrompt) => {
    try {
      return render(template, {
        ...specialTokens,
        messages,
        tools: null,
        documents: null,
        add_generation_prompt: addGenerationPrompt,
      });
    } catch (error) {
      throw new InvalidRequest(
        `Cannot render the messages with the chat template of ${where}: ${reason(error)}`,
        "messages",
      );
    }
  };
}

/**
 * What stands in for a missing template: `System:`, `User:` and `Assistant:` paragraphs, each assistant
 * turn closed by the end-of-sequence token, e.g. "User: Hi\n\nAssistant: Hello</s>\n\nUser: Bye\n\nAssistant:".
 */
export function plainChatRenderer(eosToken: string): ChatRenderer {
  return (messages, addGenerationPrompt) => {
    const turns = messages.map(({ role, content }) => {
      const name = role.charAt(0).toUpperCase() + role.slice(1);
      return `${name}: ${content}${role === "assistant" ? eosToken : ""}`;
    });
    return [...turns, ...(addGenerationPrompt ? ["Assistant:"] : [])].join("\n\n");
  };
}
