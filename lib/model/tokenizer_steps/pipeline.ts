// A tokenizer.json at work: added tokens are found, the text between is normalised, cut and merged, and special
// tokens are put around the whole; and back. Every step is one of Hugging Face's `tokenizers`, with the same
// ids and texts; the file is checked whole when it is opened.

import { InvalidFile } from "../../errors.ts";
import { type AddedToken, AddedTokenFinder, readAddedToken } from "./added_tokens.ts";
import { type Decoder, decoderOf } from "./decoders.ts";
import { BytePairModel, readVocabulary } from "./model.ts";
import { type Normalizer, normalizerOf } from "./normalizers.ts";
import { type Surroundings, surroundingsOf } from "./post_processors.ts";
import { type PreTokenizer, preTokenizerOf } from "./pre_tokenizers.ts";
import { type Json, type Part, Step } from "./step.ts";

export class TokenizerPipeline {
  /** One more than the largest token id. */
  readonly vocabSize: number;
  readonly addedTokens: readonly AddedToken[];
  /** Every token is bytes in GPT-2's alphabet, and decodes alone. */
  readonly isByteLevel: boolean;

  private readonly ids: ReadonlyMap<string, number>;
  private readonly tokens: ReadonlyMap<number, string>;
  private readonly normalize: Normalizer;
  private readonly cut: PreTokenizer;
  private readonly model: BytePairModel;
  private readonly around: Surroundings;
  private readonly join: Decoder;
  private readonly asWritten: AddedTokenFinder;
  private readonly normalized: AddedTokenFinder;
  /** Decoders are given an added token as it is found: normalised, if it is. */
  private readonly shown: ReadonlyMap<number, string>;

  /**
   * @param json the content of a tokenizer.json
   * @param modelVocabSize the rows of the model's embedding
   * @throws {InvalidFile} when ids are no ids or lie outside of the model's vocabulary, or a part is damaged
   *   or not done here
   */
  constructor(json: Json, modelVocabSize: number, where: string) {
    const vocabulary = readIds(json, modelVocabSize, where);
    this.ids = vocabulary.ids;
    this.tokens = vocabulary.tokens;
    this.addedTokens = vocabulary.addedTokens;
    this.vocabSize = vocabulary.size;
    this.model = new BytePairModel(json.model as Json, vocabulary.modelIds, where);

    const step = (part: Part): Step | null => {
      const value = json[part];
      return value === undefined || value === null ? null : new Step(value, part, where);
    };
    const [normalizer, preTokenizer] = [step("normalizer"), step("pre_tokenizer")];
    const [postProcessor, decoder] = [step("post_processor"), step("decoder")];
    this.normalize = normalizer ? normalizerOf(normalizer) : (text) => text;
    this.cut = preTokenizer ? preTokenizerOf(preTokenizer) : (pieces) => pieces;
    this.around = postProcessor
      ? surroundingsOf(postProcessor, (token) => this.ids.get(token))
      : { before: [], after: [] };
    this.join = decoder ? decoderOf(decoder) : (tokens) => [tokens.join(" ")];
    this.isByteLevel = decoder?.type === "ByteLevel";

    const [later, now] = [true, false].map((normalized) =>
      this.addedTokens.filter((token) => token.normalized === normalized)
    );
    this.asWritten = new AddedTokenFinder(now, ({ content }) => content, where);
    this.normalized = new AddedTokenFinder(later, ({ content }) => this.normalize(content), where);
    this.shown = new Map(later.map(({ id, content }) => [id, this.normalize(content)]));
  }

  /** Token ids of a text; with `special` between those that the tokenizer puts around it. */
  encode(text: string, { special }: { special: boolean }): number[] {
    const ids: number[] = special ? [...this.around.before] : [];
    for (const section of this.asWritten.split(text)) {
      if ("token" in section) {
        ids.push(section.token.id);
        continue;
      }
      for (const part of this.normalized.split(this.normalize(section.text))) {
        if ("token" in part) {
          ids.push(part.token.id);
          continue;
        }
        const first = section.from === 0 && part.from === 0;
        for (const piece of this.cut([{ text: part.text, first }])) {
          this.model.encode(piece.text, ids);
        }
      }
    }
    if (special) { for (const id of this.around.after) ids.push(id); }
    return ids;
  }

  /** The text of tokens that stand in the vocabulary. */
  decode(ids: readonly number[]): string {
    return this.join(ids.map((id) => this.shown.get(id) ?? this.tokens.get(id)!)).join("");
  }

  idOf(token: string): number | undefined {
    return this.ids.get(token);
  }

  tokenOf(id: number): string | undefined {
    return this.tokens.get(id);
  }
}

interface Vocabulary {
  /** Without added tokens that stand beside the model's. */
  modelIds: Map<string, number>;
  ids: Map<string, number>;
  tokens: Map<number, string>;
  addedTokens: AddedToken[];
  size: number;
}

function readIds(json: Json, modelVocabSize: number, where: string): Vocabulary {
  const fail = (found: string) => new InvalidFile(`Cannot use the tokenizer of ${where}: ${found}`);
  const tokens = new Map<number, string>();
  const take = (ids: Map<string, number>, token: string, id: unknown) => {
    const shown = JSON.stringify(token);
    if (!Number.isSafeInteger(id) || (id as number) < 0) {
      throw fail(`token ${shown} has id ${JSON.stringify(id)}, wanted a non-negative integer`);
    }
    if ((id as number) >= modelVocabSize) {
      throw fail(
        `token ${shown} has id ${id}, the model's vocabulary ends at ${
          modelVocabSize - 1
        }; the tokenizer belongs to another model`,
      );
    }
    const other = tokens.get(id as number);
    if (other !== undefined && other !== token) {
      throw fail(`tokens ${JSON.stringify(other)} and ${shown} both have id ${id}`);
    }
    if ((ids.get(token) ?? id) !== id) {
      throw fail(`token ${shown} has the ids ${ids.get(token)} and ${id}`);
    }
    tokens.set(id as number, token);
    ids.set(token, id as number);
  };
  const modelIds = new Map<string, number>();
  const vocabulary = readVocabulary(json.model, where);
  for (const token of Object.keys(vocabulary)) take(modelIds, token, vocabulary[token]);
  if (json.added_tokens !== undefined && !Array.isArray(json.added_tokens)) {
    throw fail("its added_tokens are no list");
  }
  const ids = new Map(modelIds);
  // Hugging Face's library numbers tokens beside the model's itself, whatever the file says.
  let next = modelIds.size;
  const addedTokens = ((json.added_tokens ?? []) as unknown[]).map((entry) => {
    const token = readAddedToken(entry, where);
    const isNew = !ids.has(token.content);
    take(ids, token.content, token.id);
    if (isNew && token.id !== next++) {
      throw fail(
        `the added token ${
          JSON.stringify(token.content)
        } has id ${token.id}, where ids go on with ${next - 1}`,
      );
    }
    return token;
  });
  if (tokens.size === 0) throw fail("it has no tokens");
  let size = 0;
  for (const id of tokens.keys()) size = Math.max(size, id + 1);
  return { modelIds, ids, tokens, addedTokens, size };
}
