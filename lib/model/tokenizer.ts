// Text to tokens and back, and conversations to text, for one model: Hugging Face's tokenizer.json
// (or its equivalent built from GGUF metadata) and the model's Jinja chat template.
// Byte-level tokens are decoded here, byte by byte, so that a stream and a whole decode agree and a
// UTF-8 character that is split over tokens is held back until it is complete.

import { InvalidFile } from "../errors.ts";
import {
  type ChatMessage,
  type ChatRenderer,
  compileChatTemplate,
  plainChatRenderer,
} from "./chat_template.ts";
import type { ModelConfig } from "./config.ts";
import { interruptible } from "./interruptible.ts";
import { fileSize, isFile, readJsonObject, readTextIfPresent } from "./positioned_file.ts";
import { tokenBytes } from "./tokenizer_steps/decoders.ts";
import { TokenizerPipeline } from "./tokenizer_steps/pipeline.ts";
import type { Json } from "./tokenizer_steps/step.ts";

/** What a tokenizer is made of, whatever file it came from. */
export interface TokenizerParts {
  /** The content of a tokenizer.json. */
  tokenizer: Json;
  /** Jinja, or null for a model without one. */
  chatTemplate: string | null;
  /** E.g. `{bos_token: "<s>", eos_token: "</s>"}`, as the template sees them. */
  specialTokens: Record<string, string>;
  /** Tokens that decode to nothing, e.g. the unused ones of a GGUF file. */
  unshownTokens?: ReadonlySet<number>;
}

/** Decodes tokens one at a time; the pieces joined are the decoded text. */
export interface StreamDecoder {
  /** The text that became complete with this token, often "". */
  push(token: number): string;
  /** The rest: an incomplete character becomes U+FFFD. */
  flush(): string;
  /** Where it is: a decoder made from it goes on as this one would. */
  state(): StreamState;
}

/** What a stream decoder has to remember, as plain data. */
export interface StreamState {
  /** The last tokens whose text is out, where that of the next depends on them. */
  done: number[];
  /** Tokens whose text is not complete yet; of a byte-level tokenizer the bytes of that character. */
  held: number[];
}

/** A text cut anywhere may have more tokens than the whole: as many as the split token has characters. */
const tokensOfCut = 256;

/** One model's tokenizer and chat template. */
export class ChatTokenizer {
  /** One more than the largest token id; the embedding may have more rows. */
  readonly vocabSize: number;
  /** Any of these ends a generation; the model's own ends, then the tokenizer's. */
  readonly eosTokens: readonly number[];
  /** Put first by `encode`, or null when the tokenizer puts none. */
  readonly bosToken: number | null;
  /** False when conversations take the plain fallback of chat_template.ts. */
  readonly hasChatTemplate: boolean;

  private readonly pipeline: TokenizerPipeline;
  private readonly special: Set<number>;
  private readonly unshown: ReadonlySet<number>;
  private readonly render: ChatRenderer;
  private readonly tokenBytes = new Map<number, Uint8Array>();

  /**
   * @param config the model it must fit: its vocabulary and end tokens
   * @throws {InvalidFile} when an id lies outside the model's vocabulary or a part cannot be used
   */
  constructor(
    parts: TokenizerParts,
    config: Pick<ModelConfig, "vocabSize" | "eosTokens">,
    where: string,
  ) {
    this.pipeline = new TokenizerPipeline(parts.tokenizer, config.vocabSize, where);
    this.vocabSize = this.pipeline.vocabSize;
    this.special = new Set(
      this.pipeline.addedTokens.filter(({ special }) => special).map(({ id }) => id),
    );
    this.unshown = parts.unshownTokens ?? new Set();
    const { bos_token: bos, eos_token: eos } = parts.specialTokens;
    const eosToken = eos === undefined ? undefined : this.pipeline.idOf(eos);
    this.eosTokens = [
      ...new Set([...config.eosTokens, ...(eosToken === undefined ? [] : [eosToken])]),
    ];
    const bosToken = bos === undefined ? undefined : this.pipeline.idOf(bos);
    this.bosToken = bosToken !== undefined && this.encode("a")[0] === bosToken ? bosToken : null;
    this.hasChatTemplate = parts.chatTemplate !== null;
    this.render = parts.chatTemplate === null
      ? plainChatRenderer(eos ?? "")
      : compileChatTemplate(parts.chatTemplate, parts.specialTokens, where);
  }

  /**
   * Token ids of a text; special tokens written in it count as such. `addSpecial` (default) adds BOS where
   * the tokenizer does. Of a text with more than `upTo` tokens perhaps only the first, still more than
   * `upTo`: one that is far too long costs no more than one that nearly fits.
   */
  encode(
    text: string,
    { addSpecial = true, upTo = Infinity }: { addSpecial?: boolean; upTo?: number } = {},
  ): number[] {
    const options = { special: addSpecial };
    for (let length = 8 * upTo; length < text.length; length *= 2) {
      const ids = interruptible(() => this.pipeline.encode(text.slice(0, length), options));
      if (ids.length > upTo + tokensOfCut) return ids;
    }
    return interruptible(() => this.pipeline.encode(text, options));
  }

  /** The text of tokens; ids that stand for none, or for one that is not shown, are left out. */
  decode(
    tokens: Iterable<number>,
    { skipSpecial = false }: { skipSpecial?: boolean } = {},
  ): string {
    const kept = Array.from(tokens).filter((token) => this.isShown(token, skipSpecial));
    return kept.length === 0 ? "" : interruptible(() => this.pipeline.decode(kept));
  }

  /**
   * Decodes a generation as it comes; special tokens are left out unless asked for. With `state` it goes
   * on where another decoder was.
   */
  streamDecoder(
    { skipSpecial = true, state = null }: { skipSpecial?: boolean; state?: StreamState | null } =
      {},
  ): StreamDecoder {
    const from = state ?? { done: [], held: [] };
    return this.pipeline.isByteLevel
      ? this.byteStream(skipSpecial, from)
      : this.windowStream(skipSpecial, from);
  }

  /** The text of a conversation. @throws {InvalidRequest} when the template refuses the messages. */
  renderChat(
    messages: readonly ChatMessage[],
    { addGenerationPrompt = false }: { addGenerationPrompt?: boolean } = {},
  ): string {
    return interruptible(() => this.render(messages, addGenerationPrompt));
  }

  /**
   * The tokens of a conversation, with one BOS where the model wants one: a template writes its own.
   * `upTo` is that of `encode`.
   */
  encodeChat(
    messages: readonly ChatMessage[],
    { upTo, ...options }: { addGenerationPrompt?: boolean; upTo?: number } = {},
  ): number[] {
    return this.encodeRendered(this.renderChat(messages, options), { upTo });
  }

  /** The tokens of what `renderChat` wrote. */
  encodeRendered(text: string, { upTo }: { upTo?: number } = {}): number[] {
    const tokens = this.encode(text, { addSpecial: false, upTo });
    return this.hasChatTemplate || this.bosToken === null ? tokens : [this.bosToken, ...tokens];
  }

  /** Whether a token is special, e.g. BOS or an end of turn. */
  isSpecial(token: number): boolean {
    return this.special.has(token);
  }

  private isShown(token: number, skipSpecial: boolean): boolean {
    return this.pipeline.tokenOf(token) !== undefined && !this.unshown.has(token) &&
      !(skipSpecial && this.special.has(token));
  }

  /** A byte-level token's bytes. */
  private bytesOf(token: number): Uint8Array {
    let bytes = this.tokenBytes.get(token);
    if (!bytes) {
      bytes = tokenBytes(this.pipeline.tokenOf(token)!);
      this.tokenBytes.set(token, bytes);
    }
    return bytes;
  }

  private byteStream(skipSpecial: boolean, { held }: StreamState): StreamDecoder {
    const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
    decoder.decode(Uint8Array.from(held), { stream: true });
    let last = held;
    return {
      push: (token) => {
        if (!this.isShown(token, skipSpecial)) return "";
        const bytes = this.bytesOf(token);
        last = [...last, ...bytes].slice(-3);
        return decoder.decode(bytes, { stream: true });
      },
      flush: () => decoder.decode(),
      state: () => ({ done: [], held: incompleteCharacter(last) }),
    };
  }

  // Other decoders look at neighbouring tokens (a leading space, runs of byte tokens), so the text of a
  // token is the difference between decoding the last few tokens with and without it.
  private windowStream(skipSpecial: boolean, from: StreamState): StreamDecoder {
    let { done, held } = from;
    const release = () => {
      const before = this.decode(done);
      const text = this.decode([...done, ...held]).slice(before.length);
      done = [...done, ...held].slice(-8);
      held = [];
      return text;
    };
    return {
      push: (token) => {
        if (!this.isShown(token, skipSpecial)) return "";
        held = [...held, token];
        // Four bytes make the longest character: more held tokens than that are not UTF-8.
        const complete = !this.decode([...done, ...held]).endsWith("\ufffd");
        return complete || held.length > 4 ? release() : "";
      },
      flush: () => held.length > 0 ? release() : "",
      state: () => ({ done, held }),
    };
  }
}

/** The bytes at the end of a text's last three that begin a character and do not complete it. */
function incompleteCharacter(last: number[]): number[] {
  for (let begin = 0; begin < last.length; begin++) {
    const bytes = last.slice(begin);
    const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
    if (decoder.decode(Uint8Array.from(bytes), { stream: true }) === "") return bytes;
  }
  return [];
}

/**
 * The tokenizer of a Hugging Face folder: tokenizer.json, tokenizer_config.json, special_tokens_map.json
 * and chat_template.jinja, of which only the first must be there.
 * @throws {InvalidFile} when it is missing or does not fit the model
 */
export function readHfTokenizer(
  folder: string,
  config: Pick<ModelConfig, "vocabSize" | "eosTokens">,
): ChatTokenizer {
  checkTokenizerFile(folder);
  const tokenizer = readJsonObject(`${folder}/tokenizer.json`, maxTokenizerBytes);
  const optional = (name: string): Json =>
    isFile(`${folder}/${name}`) ? readJsonObject(`${folder}/${name}`) : {};
  const fields = { ...optional("special_tokens_map.json"), ...optional("tokenizer_config.json") };
  const specialTokens: Record<string, string> = {};
  for (const [name, value] of Object.entries(fields)) {
    if (!name.endsWith("_token") || value === null) continue;
    const text = typeof value === "string" ? value : (value as Json).content;
    if (typeof text === "string") specialTokens[name] = text;
  }
  const chatTemplate = readTextIfPresent(`${folder}/chat_template.jinja`) ??
    namedTemplate(fields.chat_template);
  return new ChatTokenizer({ tokenizer, chatTemplate, specialTokens }, config, folder);
}

/** The largest of released models, of 256,000 tokens, has 35 MB. */
const maxTokenizerBytes = 64 * 2 ** 20;

/** That a folder has a tokenizer.json that may be read. @throws {InvalidFile} */
export function checkTokenizerFile(folder: string): void {
  const path = `${folder}/tokenizer.json`;
  const sizeBytes = fileSize(path);
  if (sizeBytes === null) {
    throw new InvalidFile(
      `Cannot open the tokenizer of ${folder}: it has no tokenizer.json; save one there with AutoTokenizer.save_pretrained of Transformers`,
    );
  }
  if (sizeBytes > maxTokenizerBytes) {
    throw new InvalidFile(
      `Cannot read ${path}: it has ${sizeBytes} bytes, at most ${maxTokenizerBytes} are read of a tokenizer`,
    );
  }
}

/** The template itself, or the one named "default" of several. */
function namedTemplate(field: unknown): string | null {
  if (typeof field === "string") return field;
  if (!Array.isArray(field)) return null;
  const entry = field.find((t) => t?.name === "default") as Json | undefined;
  return typeof entry?.template === "string" ? entry.template : null;
}
