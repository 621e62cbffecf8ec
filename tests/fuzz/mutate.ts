// Damages a file the way disks, editors and adversaries do: bits flipped, ranges lost, doubled, moved or
// taken from another file, the end cut off, zeros, brackets and extreme numbers put in.
// The same seed gives the same bytes, so a mutant that fails a test can be made again from its number.
// Knows no format: one mutator for JSON, JSONL, CSV, Parquet, safetensors and GGUF.

import { type RandomGenerator, randomGenerator } from "../../lib/lora/random.ts";

/** Values that readers of text trip over. */
const words = [
  "null",
  "-1",
  "0",
  "1e999",
  "NaN",
  "2147483648",
  "18446744073709551616",
  '""',
  "[]",
  "{}",
  "true",
  '"__proto__"',
  '"constructor"',
  '"\\ud800"',
  "\ufeff",
  "\r\n",
  "\u0000",
];

/** Values that readers of counts and offsets trip over, written as a little-endian u32 or u64. */
const counts = [0n, 1n, 0x7fn, 0x80n, 0xffffn, 0x7fffffffn, 0xffffffffn, 2n ** 53n, 2n ** 64n - 1n];

/** What one change is made with. */
interface Context {
  bytes: Uint8Array<ArrayBuffer>;
  random: RandomGenerator;
  /** Files that pieces are taken from. */
  others: readonly Uint8Array[];
}

type Change = (context: Context) => Uint8Array<ArrayBuffer>;

/** An integer in [0, below). */
const below = (random: RandomGenerator, limit: number) => Math.floor(random.uniform() * limit);
const pick = <T>(random: RandomGenerator, from: readonly T[]): T =>
  from[below(random, from.length)];
const utf8 = (text: string) => new TextEncoder().encode(text);

function joined(...parts: Uint8Array[]): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.byteLength, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.byteLength;
  }
  return out;
}

/** A range of `bytes`; short ones are as likely as long ones. */
function rangeOf(random: RandomGenerator, bytes: Uint8Array): [number, number] {
  const from = below(random, bytes.byteLength + 1);
  const length = Math.floor((bytes.byteLength + 1) ** random.uniform());
  return [from, Math.min(bytes.byteLength, from + length)];
}

function inserted({ bytes, random }: Context, piece: Uint8Array): Uint8Array<ArrayBuffer> {
  const at = below(random, bytes.byteLength + 1);
  return joined(bytes.subarray(0, at), piece, bytes.subarray(at));
}

function overwritten({ bytes, random }: Context, piece: Uint8Array): Uint8Array<ArrayBuffer> {
  const at = below(random, bytes.byteLength + 1);
  return joined(bytes.subarray(0, at), piece, bytes.subarray(at + piece.byteLength));
}

const changes: Record<string, Change> = {
  flipBit: ({ bytes, random }) => {
    const out = bytes.slice();
    if (out.byteLength > 0) out[below(random, out.byteLength)] ^= 1 << below(random, 8);
    return out;
  },
  setByte: ({ bytes, random }) => {
    const out = bytes.slice();
    if (out.byteLength > 0) out[below(random, out.byteLength)] = below(random, 256);
    return out;
  },
  deleteRange: ({ bytes, random }) => {
    const [from, to] = rangeOf(random, bytes);
    return joined(bytes.subarray(0, from), bytes.subarray(to));
  },
  duplicateRange: ({ bytes, random }) => {
    const [from, to] = rangeOf(random, bytes);
    return joined(bytes.subarray(0, to), bytes.subarray(from));
  },
  moveRange: (context) => {
    const [from, to] = rangeOf(context.random, context.bytes);
    const rest = joined(context.bytes.subarray(0, from), context.bytes.subarray(to));
    return inserted({ ...context, bytes: rest }, context.bytes.subarray(from, to));
  },
  splice: (context) => {
    const other = pick(context.random, context.others);
    return inserted(context, other.subarray(...rangeOf(context.random, other)));
  },
  truncate: ({ bytes, random }) => bytes.slice(0, below(random, bytes.byteLength + 1)),
  insertZeros: (context) => inserted(context, new Uint8Array(1 + below(context.random, 64))),
  insertBrackets: (context) =>
    inserted(
      context,
      utf8(
        pick(context.random, ["[", "{", "(", "]", "}", '{"a":']).repeat(
          1 + Math.floor(5000 ** context.random.uniform()),
        ),
      ),
    ),
  insertWord: (context) => inserted(context, utf8(pick(context.random, words))),
  writeCount: (context) => {
    const count = new Uint8Array(8);
    new DataView(count.buffer).setBigUint64(0, pick(context.random, counts), true);
    return overwritten(context, count.subarray(0, pick(context.random, [4, 8])));
  },
  changeDigits: ({ bytes, random }) => {
    const out = bytes.slice();
    const first = below(random, out.byteLength + 1);
    const isDigit = (byte: number) => byte >= 0x30 && byte <= 0x39;
    const from = out.findIndex((byte, i) => i >= first && isDigit(byte));
    for (let at = from; at >= 0 && isDigit(out[at]); at++) out[at] = 0x30 + below(random, 10);
    return out;
  },
};
const kinds = Object.values(changes);

/**
 * `original` with one to eight changes.
 * @param others files of the same kind that pieces are taken from
 */
export function mutate(
  original: Uint8Array,
  seed: number,
  others: readonly Uint8Array[] = [original],
): Uint8Array<ArrayBuffer> {
  const random = randomGenerator(seed, "mutate");
  let bytes = joined(original);
  for (let left = 2 ** below(random, 4); left > 0; left--) {
    bytes = pick(random, kinds)({ bytes, random, others });
  }
  return bytes;
}
