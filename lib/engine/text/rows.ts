// Tokens of many samples as they cross between threads: in pieces of bounded size, whose memory is handed
// over instead of copied. The thread that receives them looks into the piece; it builds no array of its own.

import type { RenderedSample } from "../../data/render.ts";

/** Some samples' tokens. */
export interface TokenRows {
  /** Which list they belong to, e.g. the number of a phase. */
  part: number;
  /** (sum of lengths) u32: one sample after the other. */
  tokens: Uint32Array<ArrayBuffer>;
  /** (samples) u32 each. */
  lengths: Uint32Array<ArrayBuffer>;
  promptLengths: Uint32Array<ArrayBuffer>;
}

/** Samples and tokens of a piece: 1 MiB, or a sample that is longer. */
const maxSamples = 4096, maxTokens = 2 ** 18;

/** Samples in pieces. */
export function* rowsOf(part: number, samples: RenderedSample[]): Generator<TokenRows> {
  for (let begin = 0; begin < samples.length;) {
    let end = begin, count = 0;
    do count += samples[end++].tokens.length; while (
      end < samples.length && end - begin < maxSamples &&
      count + samples[end].tokens.length <= maxTokens
    );
    const some = samples.slice(begin, end);
    const tokens = new Uint32Array(count);
    let at = 0;
    for (const sample of some) {
      tokens.set(sample.tokens, at);
      at += sample.tokens.length;
    }
    yield {
      part,
      tokens,
      lengths: Uint32Array.from(some, (sample) => sample.tokens.length),
      promptLengths: Uint32Array.from(some, (sample) => sample.promptLength),
    };
    begin = end;
  }
}

/** The samples of a piece, as views of its memory. */
export function samplesOf({ tokens, lengths, promptLengths }: TokenRows): RenderedSample[] {
  let begin = 0;
  return Array.from(lengths, (length, i) => {
    const sample = {
      tokens: tokens.subarray(begin, begin + length),
      promptLength: promptLengths[i],
    };
    begin += length;
    return sample;
  });
}

/** What to hand over with a piece. */
export function memoryOf({ tokens, lengths, promptLengths }: TokenRows): ArrayBuffer[] {
  return [tokens.buffer, lengths.buffer, promptLengths.buffer];
}

/** Collects samples by part as their pieces come. */
export function collectRows(
  parts: number,
): { parts: RenderedSample[][]; onRows: (rows: TokenRows) => void } {
  const collected: RenderedSample[][] = Array.from({ length: parts }, () => []);
  return {
    parts: collected,
    onRows(rows) {
      for (const sample of samplesOf(rows)) collected[rows.part].push(sample);
    },
  };
}
