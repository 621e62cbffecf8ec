// The tokenizer of a GGUF file as the tokenizer.json that Hugging Face would have for it.
//   "gpt2": byte-level BPE with merges; `tokenizer.ggml.pre` names how text is split (llama.cpp's names)
//   "llama": SentencePiece BPE; it has scores instead of merges, so each way to join two tokens into a
//            third becomes a merge, in the order of the third's score (as Transformers converts it)
// Other models and splits are refused by name rather than tokenized a little wrong.

import { InvalidFile } from "../errors.ts";
import type { GgufValue } from "./gguf.ts";
import type { TokenizerParts } from "./tokenizer.ts";
import { gpt2Pattern, isolate } from "./tokenizer_steps/pre_tokenizers.ts";
import type { Json } from "./tokenizer_steps/step.ts";

type Metadata = ReadonlyMap<string, GgufValue>;

const contractions = "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])";
const llama3Pattern = splitPattern("\\p{N}{1,3}");
const qwen2Pattern = splitPattern("\\p{N}");

function splitPattern(numbers: string): string {
  return `${contractions}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${numbers}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;
}

/** How a byte-level tokenizer cuts text before merging. */
export interface Split {
  /** Applied in turn; each match is a piece of its own. */
  patterns: string[];
  normalizer: Json | null;
  /** A piece that is a token needs no merging. */
  ignoreMerges: boolean;
  /** Whether BOS is put first when the file does not say. */
  addBos: boolean;
}

const plain = { normalizer: null, ignoreMerges: false, addBos: false };
const digitsThenGpt2: Split = { ...plain, patterns: ["\\p{N}", gpt2Pattern] };
const llama3: Split = { ...plain, patterns: [llama3Pattern], ignoreMerges: true, addBos: true };
const qwen2: Split = { ...plain, patterns: [qwen2Pattern], normalizer: { type: "NFC" } };

/** Those of released models have up to 128; the ways to join one grow with its square. */
const maxTokenLength = 1024;

/** By `tokenizer.ggml.pre`. */
const splits: Record<string, Split> = {
  "default": {
    ...plain,
    patterns: ["[\\p{P}\\$\\+<=>\\^~\\|]+", gpt2Pattern, "\\p{N}+", "[0-9][0-9][0-9]"],
  },
  "gpt-2": { ...plain, patterns: [gpt2Pattern] },
  "smollm": digitsThenGpt2,
  "starcoder": digitsThenGpt2,
  "refact": digitsThenGpt2,
  "llama-bpe": llama3,
  "llama-v3": llama3,
  "llama3": llama3,
  "qwen2": qwen2,
  "deepseek-r1-qwen": { ...qwen2, addBos: true },
};

/**
 * The tokenizer.json, template and special tokens that the metadata describe.
 * @throws {InvalidFile} when a field is missing or lies, or the tokenizer is of a kind not read here
 */
export function ggufTokenizerParts(metadata: Metadata, where: string): TokenizerParts {
  const fields = new TokenizerFields(metadata, where);
  // An empty token gets a name, as in llama.cpp, so that it is found in no text.
  const tokens = fields.strings("tokens").map((token, id) => token || `[EMPTY_${id}]`);
  const types = fields.numbers("token_type", tokens.length);
  const vocab: Record<string, number> = Object.create(null);
  tokens.forEach((token, id) => vocab[token] = id);

  const specialTokens: Record<string, string> = {};
  const roles = { bos: "bos", eos: "eos", unknown: "unk", padding: "pad" };
  for (const [field, name] of Object.entries(roles)) {
    const id = fields.tokenId(`${field}_token_id`, tokens.length);
    if (id !== null) specialTokens[`${name}_token`] = tokens[id];
  }
  const split = ggufTokenizerKind(metadata, where);
  const long = tokens.find((token) => token.length > maxTokenLength);
  if (long !== undefined) {
    throw fields.error(
      `a token has ${long.length} characters (${
        JSON.stringify(long.slice(0, 20))
      }…), at most ${maxTokenLength} are read`,
    );
  }
  const parts = split ? byteLevelBpe(vocab, fields.strings("merges"), split) : sentencePieceBpe(
    tokens,
    fields.numbers("scores", tokens.length),
    vocab,
    specialTokens.unk_token ?? null,
    metadata.get("tokenizer.ggml.add_space_prefix") !== false,
  );
  const addBos = split ? split.addBos : true;
  const { bos_token: bos, eos_token: eos } = specialTokens;
  const template = metadata.get("tokenizer.chat_template");
  return {
    tokenizer: {
      version: "1.0",
      added_tokens: addedTokens(tokens, types),
      post_processor: templateProcessing(
        fields.flag("add_bos_token", addBos) ? bos : undefined,
        fields.flag("add_eos_token", false) ? eos : undefined,
        vocab,
      ),
      ...parts,
    },
    chatTemplate: typeof template === "string" ? template : null,
    specialTokens,
    unshownTokens: unshownTokens(types, split === null),
  };
}

/**
 * Tokens that say nothing: as in llama.cpp's token_to_piece all but the normal (1), unknown (2), control (3) and
 * user-defined ones (4), so the unused (5) that fill up a vocabulary; SentencePiece has bytes (6) besides.
 */
function unshownTokens(types: ArrayLike<number>, hasBytes: boolean): Set<number> {
  const shown = new Set([1, 2, 3, 4, ...(hasBytes ? [6] : [])]);
  return new Set(Array.from(types).flatMap((type, id) => shown.has(type) ? [] : [id]));
}

/**
 * How a byte-level tokenizer splits text, or null for SentencePiece's kind.
 * @throws {InvalidFile} when it is of a kind not read here
 */
export function ggufTokenizerKind(metadata: Metadata, where: string): Split | null {
  const refuse = (name: string, wanted: string): never => {
    throw new InvalidFile(
      `Cannot use the tokenizer of ${where}: tokenizer.ggml.${name} is ${
        JSON.stringify(metadata.get(`tokenizer.ggml.${name}`))
      }, wanted ${wanted}; use the model's Hugging Face folder`,
    );
  };
  const model = metadata.get("tokenizer.ggml.model");
  if (model === "llama") return null;
  if (model !== "gpt2") return refuse("model", "gpt2 or llama");
  const pre = metadata.get("tokenizer.ggml.pre") ?? "default";
  if (typeof pre !== "string" || !Object.hasOwn(splits, pre)) {
    return refuse("pre", `one of ${Object.keys(splits).join(", ")}`);
  }
  return splits[pre];
}

/** Control tokens (type 3) and the unknown token (2) are special, user-defined ones (4) only added. */
function addedTokens(tokens: string[], types: ArrayLike<number>): Json[] {
  return tokens.flatMap((content, id) => {
    const special = types[id] === 2 || types[id] === 3;
    return special || types[id] === 4 ? [{ id, content, special, normalized: false }] : [];
  });
}

function byteLevelBpe(vocab: Json, merges: string[], split: Split): Json {
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, use_regex: false };
  return {
    normalizer: split.normalizer,
    pre_tokenizer: {
      type: "Sequence",
      pretokenizers: [...split.patterns.map(isolate), byteLevel],
    },
    decoder: { type: "ByteLevel" },
    model: { type: "BPE", vocab, merges, unk_token: null, ignore_merges: split.ignoreMerges },
  };
}

function sentencePieceBpe(
  tokens: string[],
  scores: ArrayLike<number>,
  vocab: Record<string, number>,
  unknown: string | null,
  addSpacePrefix: boolean,
): Json {
  // As llama.cpp and Llama 2's own tokenizer.json: ▁ goes in front of every piece of text, even of one
  // that begins with a space (Transformers' import of a GGUF leaves it out there).
  const spaces = { type: "Replace", pattern: { String: " " }, content: "▁" };
  const strip = { type: "Strip", content: " ", start: 1, stop: 0 };
  return {
    normalizer: {
      type: "Sequence",
      normalizers: [...(addSpacePrefix ? [{ type: "Prepend", prepend: "▁" }] : []), spaces],
    },
    pre_tokenizer: null,
    decoder: {
      type: "Sequence",
      decoders: [
        { type: "Replace", pattern: { String: "▁" }, content: " " },
        { type: "ByteFallback" },
        { type: "Fuse" },
        ...(addSpacePrefix ? [strip] : []),
      ],
    },
    model: {
      type: "BPE",
      vocab,
      merges: mergesByScore(tokens, scores, vocab),
      unk_token: unknown,
      fuse_unk: true,
      byte_fallback: true,
      ignore_merges: false,
    },
  };
}

function mergesByScore(
  tokens: string[],
  scores: ArrayLike<number>,
  vocab: Record<string, number>,
): [string, string][] {
  const found: { left: string; right: string; score: number }[] = [];
  tokens.forEach((token, id) => {
    const local: typeof found = [];
    for (let at = 1; at < token.length; at++) {
      const left = token.slice(0, at);
      const right = token.slice(at);
      if (left in vocab && right in vocab) local.push({ left, right, score: scores[id] });
    }
    local.sort((a, b) => vocab[a.left] - vocab[b.left] || vocab[a.right] - vocab[b.right]);
    found.push(...local);
  });
  found.sort((a, b) =>
    b.score - a.score || b.left.length - a.left.length || b.right.length - a.right.length
  );
  return found.map(({ left, right }) => [left, right]);
}

function templateProcessing(
  bos: string | undefined,
  eos: string | undefined,
  vocab: Record<string, number>,
): Json | null {
  if (bos === undefined && eos === undefined) return null;
  const special = (token: string | undefined) =>
    token === undefined ? [] : [{ SpecialToken: { id: token, type_id: 0 } }];
  const sequence = (id: "A" | "B") => ({ Sequence: { id, type_id: 0 } });
  const named = [bos, eos].filter((token) => token !== undefined);
  return {
    type: "TemplateProcessing",
    single: [...special(bos), sequence("A"), ...special(eos)],
    pair: [...special(bos), sequence("A"), sequence("B"), ...special(eos)],
    special_tokens: Object.fromEntries(
      named.map((token) => [token, { id: token, ids: [vocab[token]], tokens: [token] }]),
    ),
  };
}

/** Typed access to `tokenizer.ggml.*`. */
class TokenizerFields {
  constructor(private readonly metadata: Metadata, private readonly where: string) {}

  error(found: string): InvalidFile {
    return new InvalidFile(`Cannot use the tokenizer of ${this.where}: ${found}`);
  }

  strings(name: string): string[] {
    const value = this.metadata.get(`tokenizer.ggml.${name}`);
    if (!Array.isArray(value) || !value.every((item) => typeof item === "string")) {
      throw this.error(
        `tokenizer.ggml.${name} is ${value === undefined ? "missing" : "no list of strings"}`,
      );
    }
    return value as string[];
  }

  numbers(name: string, length: number): ArrayLike<number> {
    const value = this.metadata.get(`tokenizer.ggml.${name}`);
    if (!ArrayBuffer.isView(value)) {
      throw this.error(
        `tokenizer.ggml.${name} is ${value === undefined ? "missing" : "no list of numbers"}`,
      );
    }
    const numbers = value as unknown as ArrayLike<number>;
    if (numbers.length !== length) {
      throw this.error(`tokenizer.ggml.${name} has ${numbers.length} entries for ${length} tokens`);
    }
    return numbers;
  }

  /** A token id, or null when the file names none. */
  tokenId(name: string, vocabSize: number): number | null {
    const value = this.metadata.get(`tokenizer.ggml.${name}`);
    if (value === undefined) return null;
    if (!Number.isInteger(value) || (value as number) < 0 || (value as number) >= vocabSize) {
      throw this.error(
        `tokenizer.ggml.${name} is ${String(value)}, its tokens end at ${vocabSize - 1}`,
      );
    }
    return value as number;
  }

  flag(name: string, fallback: boolean): boolean {
    const value = this.metadata.get(`tokenizer.ggml.${name}`);
    return typeof value === "boolean" ? value : fallback;
  }
}
