// From tokens back to text, as Hugging Face's `tokenizers` does it (rust, decoders/), but for bytes that are no
// UTF-8: there a run of byte tokens with one such byte becomes U+FFFD throughout, here what is wrong alone does,
// because a stream has shown the rest by then. Left out, and refused by name: WordPiece and CTC.

import { byteOfCharacter, readMetaspace } from "./pre_tokenizers.ts";
import { replaceAll, type Step } from "./step.ts";

export type Decoder = (tokens: string[]) => string[];

/** @throws {InvalidFile} for a step that is damaged or not done here */
export function decoderOf(step: Step): Decoder {
  switch (step.type) {
    case "Sequence": {
      const steps = step.steps("decoders").map(decoderOf);
      return (tokens) => steps.reduce((before, decode) => decode(before), tokens);
    }
    case "ByteLevel":
      return (tokens) => [decodeUtf8(tokens.flatMap((token) => [...tokenBytes(token)]))];
    case "ByteFallback":
      return byteFallback;
    case "Fuse":
      return (tokens) => [tokens.join("")];
    case "Replace": {
      const pattern = step.pattern();
      const content = step.text("content");
      return (tokens) => tokens.map((token) => replaceAll(token, pattern, content));
    }
    case "Strip": {
      const content = step.character("content");
      const [start, stop] = [step.count("start"), step.count("stop")];
      return (tokens) => tokens.map((token) => strip(token, content, start, stop));
    }
    case "Metaspace":
      return metaspace(step);
    case "BPEDecoder": {
      const suffix = step.text("suffix");
      return (tokens) =>
        tokens.map((token, i) => token.replaceAll(suffix, i === tokens.length - 1 ? "" : " "));
    }
    default:
      throw step.unknown();
  }
}

/** The bytes of a byte-level token; one with characters outside of that alphabet stands for itself. */
export function tokenBytes(token: string): Uint8Array<ArrayBuffer> {
  const bytes = Array.from(token, (character) => byteOfCharacter.get(character));
  return bytes.includes(undefined)
    ? new TextEncoder().encode(token)
    : Uint8Array.from(bytes as number[]);
}

const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });
const decodeUtf8 = (bytes: number[]) => utf8.decode(Uint8Array.from(bytes));

/** Runs of `<0xE4>` become the text they encode. */
function byteFallback(tokens: string[]): string[] {
  const out: string[] = [];
  let bytes: number[] = [];
  const release = () => {
    if (bytes.length > 0) out.push(decodeUtf8(bytes));
    bytes = [];
  };
  for (const token of tokens) {
    const hex = /^<0x([0-9a-fA-F]{2})>$/.exec(token)?.[1];
    if (hex !== undefined) {
      bytes.push(parseInt(hex, 16));
      continue;
    }
    release();
    out.push(token);
  }
  release();
  return out;
}

/** Up to `start` and `stop` of a character taken from the ends. */
function strip(token: string, content: string, start: number, stop: number): string {
  const characters = Array.from(token);
  let from = 0;
  while (from < start && characters[from] === content) from++;
  let to = characters.length;
  while (characters.length - to < stop && to > from && characters[to - 1] === content) to--;
  return characters.slice(from, to).join("");
}

/** The replacement becomes a space again, but not in the first token where one was put in front. */
function metaspace(step: Step): Decoder {
  const { replacement, scheme } = readMetaspace(step);
  const atStart = scheme === "never" ? " " : "";
  return (tokens) =>
    tokens.map((token, i) => token.replaceAll(replacement, () => i === 0 ? atStart : " "));
}
