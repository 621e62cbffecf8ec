// The model of a tokenizer.json: which token has which id, and how a piece becomes tokens. Byte-pair
// encoding alone, which the Llama family uses; @huggingface/tokenizers merges. Left out, and refused by name:
// Unigram, WordPiece and WordLevel models, marks on the parts of words, and merges dropped by chance.

import { BPE } from "@huggingface/tokenizers";
import { InvalidFile } from "../../errors.ts";
import { byteOfCharacter } from "./pre_tokenizers.ts";
import { isObject, type Json } from "./step.ts";

/** Byte-pair encoding of one piece. */
export class BytePairModel {
  private readonly bpe: BPE;
  private readonly ids: ReadonlyMap<string, number>;
  private readonly unknown: string | null;
  private readonly fuseUnknown: boolean;
  /** Characters without a token are left out before the rest is merged. */
  private readonly dropsUnknown: boolean;

  /**
   * @param ids the vocabulary, checked
   * @throws {InvalidFile} when a field is damaged or asks for what is not done here
   */
  constructor(json: Json, ids: ReadonlyMap<string, number>, where: string) {
    const fail = (found: string) =>
      new InvalidFile(`Cannot use the tokenizer of ${where}: its model ${found}`);
    const flag = (name: string) => {
      const value = json[name] ?? false;
      if (typeof value !== "boolean") {
        throw fail(`has ${name} ${JSON.stringify(value)}, wanted true or false`);
      }
      return value;
    };
    for (const name of ["dropout", "continuing_subword_prefix", "end_of_word_suffix"]) {
      const value = json[name];
      if (value !== undefined && value !== null && value !== "" && value !== 0) {
        throw fail(`has ${name} ${JSON.stringify(value)}, which is not done here`);
      }
    }
    const named = json.unk_token ?? null;
    // Where every byte has a token, nothing is unknown.
    const hasBytes = [...byteOfCharacter.keys()].every((character) => ids.has(character));
    const isKnown = typeof named === "string" && ids.has(named);
    if (named !== null && !isKnown && !(typeof named === "string" && hasBytes)) {
      throw fail(`has the unk_token ${JSON.stringify(named)}, which its vocabulary lacks`);
    }
    const unknown = isKnown ? named : null;
    const byteFallback = flag("byte_fallback");
    const missing = Array.from({ length: 256 }, (_, byte) => byteToken(byte))
      .find((token) => !ids.has(token));
    if (byteFallback && missing !== undefined) {
      throw fail(`falls back to bytes, its vocabulary lacks ${missing}`);
    }
    this.ids = ids;
    this.unknown = unknown;
    this.fuseUnknown = flag("fuse_unk");
    this.dropsUnknown = unknown === null && !byteFallback;
    this.bpe = new BPE(
      {
        type: "BPE",
        vocab: Object.create(null),
        merges: readMerges(json.merges, ids, fail),
        unk_token: unknown ?? undefined,
        byte_fallback: byteFallback,
        ignore_merges: flag("ignore_merges"),
      } as unknown as ConstructorParameters<typeof BPE>[0],
    );
    // The library copies a vocabulary entry by entry, which takes a while for 150,000.
    this.bpe.tokens_to_ids = ids as Map<string, number>;
  }

  /** Appends the ids of a piece. */
  encode(piece: string, to: number[]): void {
    const known = this.dropsUnknown ? this.withoutUnknown(piece) : piece;
    let before: string | null = null;
    for (const token of this.bpe.encode([known])) {
      const fuses = this.fuseUnknown && token === this.unknown && before === token;
      if (!fuses) to.push(this.ids.get(token)!);
      before = token;
    }
  }

  private withoutUnknown(piece: string): string {
    for (const character of piece) {
      if (!this.ids.has(character)) {
        return Array.from(piece).filter((other) => this.ids.has(other)).join("");
      }
    }
    return piece;
  }
}

/** What stands for a byte that has no character of its own. */
function byteToken(byte: number): string {
  return `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`;
}

function readMerges(
  merges: unknown,
  ids: ReadonlyMap<string, number>,
  fail: (found: string) => InvalidFile,
): [string, string][] {
  if (!Array.isArray(merges)) throw fail("has no list of merges");
  return merges.map((merge, i) => {
    const pair = typeof merge === "string" ? merge.split(" ") : merge;
    const isPair = Array.isArray(pair) && pair.length === 2 &&
      pair.every((part) => typeof part === "string" && part !== "");
    if (!isPair) throw fail(`has ${JSON.stringify(merge)?.slice(0, 80)} as merge ${i}`);
    const [left, right] = pair;
    for (const token of [left, right, left + right]) {
      if (!ids.has(token)) {
        throw fail(`merges ${JSON.stringify(pair)}, its vocabulary lacks ${JSON.stringify(token)}`);
      }
    }
    return [left, right];
  });
}

/** The vocabulary of a model as it stands in the file. @throws {InvalidFile} when it is of another kind */
export function readVocabulary(model: unknown, where: string): Json {
  if (!isObject(model)) {
    throw new InvalidFile(`Cannot use the tokenizer of ${where}: it has no model`);
  }
  // Files of old versions do not name the type of a model with merges.
  const type = model.type ?? (model.merges ? "BPE" : undefined);
  if (type !== "BPE") {
    throw new InvalidFile(
      `Cannot use the tokenizer of ${where}: its model is ${
        JSON.stringify(type)
      }, only BPE is done here`,
    );
  }
  if (!isObject(model.vocab)) {
    throw new InvalidFile(`Cannot use the tokenizer of ${where}: its model has no vocab`);
  }
  return model.vocab;
}
