// tokenizer.json made ready for the JavaScript tokenizer: its token ids checked, absent parts filled in,
// and the few steps that library does differently from Hugging Face's Rust one put in terms it does
// the same: `Digits` and the byte-level split become explicit Unicode patterns (the library's own take
// only ASCII digits and JavaScript's idea of white space), and splits it cannot do are refused.

import { InvalidFile } from "../errors.ts";

type Json = Record<string, unknown>;

/** GPT-2's split into words, numbers, punctuation and spaces. */
export const gpt2Pattern =
  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/** A token added beside the model's vocabulary, e.g. `<|im_end|>`. */
export interface AddedToken extends Json {
  id: number;
  content: string;
  special: boolean;
}

export interface CheckedTokenizerJson {
  json: Json;
  addedTokens: AddedToken[];
  /** One more than the largest token id. */
  vocabSize: number;
}

/**
 * Checks every token id and rewrites what the library does differently; `json` itself is not changed.
 * @throws {InvalidFile} when ids are no ids, lie outside the model's vocabulary, or a step is not done here
 */
export function checkTokenizerJson(
  json: Json,
  modelVocabSize: number,
  where: string,
): CheckedTokenizerJson {
  const model = json.model;
  if (!isObject(model)) {
    throw new InvalidFile(`Cannot use the tokenizer of ${where}: it has no model`);
  }
  let largest = -1;
  const take = (token: unknown, id: unknown) => {
    if (!Number.isSafeInteger(id) || (id as number) < 0) {
      throw new InvalidFile(
        `Cannot use the tokenizer of ${where}: token ${JSON.stringify(token)} has id ${
          JSON.stringify(id)
        }, wanted a non-negative integer`,
      );
    }
    if ((id as number) >= modelVocabSize) {
      throw new InvalidFile(
        `Cannot use the tokenizer of ${where}: token ${
          JSON.stringify(token)
        } has id ${id}, the model's vocabulary ends at ${
          modelVocabSize - 1
        }; the tokenizer belongs to another model`,
      );
    }
    largest = Math.max(largest, id as number);
  };
  const vocab = model.vocab;
  if (Array.isArray(vocab)) vocab.forEach((entry, id) => take((entry as unknown[])?.[0], id));
  else if (isObject(vocab)) { for (const token in vocab) take(token, vocab[token]); }
  else throw new InvalidFile(`Cannot use the tokenizer of ${where}: its model has no vocab`);

  const addedTokens: AddedToken[] = [];
  for (const entry of (json.added_tokens ?? []) as unknown[]) {
    if (!isObject(entry) || typeof entry.content !== "string") {
      throw new InvalidFile(`Cannot use the tokenizer of ${where}: an added token has no content`);
    }
    take(entry.content, entry.id);
    addedTokens.push({ ...entry, special: entry.special === true } as AddedToken);
  }
  if (largest < 0) throw new InvalidFile(`Cannot use the tokenizer of ${where}: it has no tokens`);
  return {
    json: {
      normalizer: null,
      post_processor: null,
      decoder: null,
      ...json,
      pre_tokenizer: rewritePreTokenizer(json.pre_tokenizer, where),
      added_tokens: addedTokens,
    },
    addedTokens,
    vocabSize: largest + 1,
  };
}

function rewritePreTokenizer(step: unknown, where: string): Json | null {
  if (!isObject(step)) return null;
  switch (step.type) {
    case "Sequence":
      return {
        ...step,
        pretokenizers: ((step.pretokenizers ?? []) as unknown[]).map((inner) =>
          rewritePreTokenizer(inner, where)
        ),
      };
    case "Digits":
      return isolate(step.individual_digits ? "\\p{N}" : "\\p{N}+");
    case "ByteLevel":
      if (step.use_regex === false || step.add_prefix_space === true) return step;
      return {
        type: "Sequence",
        pretokenizers: [isolate(gpt2Pattern), { ...step, use_regex: false }],
      };
    case "Split":
      if (step.behavior === "MergedWithPrevious" || step.behavior === "MergedWithNext") {
        throw new InvalidFile(
          `Cannot use the tokenizer of ${where}: its Split step has behaviour ${step.behavior}, only Isolated, Removed and Contiguous are done here`,
        );
      }
      return step;
    default:
      return step;
  }
}

/** A pre-tokenizer step that makes each match of a pattern a piece of its own. */
export function isolate(pattern: string): Json {
  return { type: "Split", pattern: { Regex: pattern }, behavior: "Isolated", invert: false };
}

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
