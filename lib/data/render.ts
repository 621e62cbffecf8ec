// Samples to tokens through the model's own chat template, with the loss on the answer only:
// tokens = prompt (with the generation prompt) + answer + end of turn; tokens at index >= promptLength
// are scored. Same tokens and mask as TRL's SFTTrainer with completion_only_loss (what the template
// writes after the end-of-turn token is scored too). Two differences, both on purpose: a prompt is
// never cut at a token that merged with the answer (TRL then trains on a prompt that generation never
// sees), and a sample that is too long is refused unless the caller asks otherwise (TRL cuts it, which
// teaches answers without an end). Left out: loss on earlier assistant turns.

import { InvalidRequest } from "../errors.ts";
import type { ChatTokenizer } from "../model/tokenizer.ts";
import type { Message, Sample } from "./record.ts";
import { sampleName } from "./sample.ts";

/** What rendering needs of a model's tokenizer. */
export type RenderTokenizer = Pick<
  ChatTokenizer,
  "encode" | "renderChat" | "encodeChat" | "eosTokens"
>;

export interface RenderedSample {
  /** (T) u32 token ids. */
  tokens: Uint32Array;
  /** Tokens before the answer, at least 1; the rest of `tokens` is scored. */
  promptLength: number;
}

/** What happens to a sample that is too long: an error, a cut, or it is left out. */
export type TooLong = "refuse" | "truncate" | "skip";

/** What `render…s` gives: the samples kept, in order, and what became of the others. */
export interface Rendered<T> {
  samples: T[];
  /** Of each kept sample, its index in the input. */
  indices: number[];
  truncated: number;
  skipped: number;
}

export interface RenderSettings {
  maxLength: number;
  /** The model's: a bound that no setting raises. */
  positions?: number;
  /** Put before every conversation that has no system message. */
  systemPrompt?: string | null;
  /** "refuse" by default. "truncate" drops the end of the answer, and skips where no answer is left. */
  tooLong?: TooLong;
  /** Told of each sample, by its number from 1, before it is rendered. */
  onSample?(number: number): void;
}

export interface PromptSettings {
  maxPromptLength: number;
  /** What the model has left for a prompt (`promptPositions`): a bound that no setting raises. */
  positions?: number;
  systemPrompt?: string | null;
  /** "refuse" by default. "truncate" drops the beginning of the prompt, as TRL once did. */
  tooLong?: TooLong;
  /** Told of each sample, by its number from 1, before it is rendered. */
  onSample?(number: number): void;
}

/**
 * Renders one sample, whatever its length; of one with more than `upTo` tokens perhaps not all.
 * @throws {InvalidRequest} when it has no answer, or nothing comes before the answer.
 */
export function renderSample(
  sample: Sample,
  tokenizer: RenderTokenizer,
  index: number,
  systemPrompt: string | null = null,
  upTo = Infinity,
): RenderedSample {
  if (sample.answer === null) {
    throw new InvalidRequest(
      `Cannot train on ${
        sampleName(sample, index + 1)
      }: it has no answer; add one or drop the sample`,
    );
  }
  const prompt = withSystemPrompt(sample.prompt, systemPrompt);
  const promptTokens = encodePrompt(prompt, tokenizer, index, upTo);
  const conversation: Message[] = [...prompt, { role: "assistant", content: sample.answer }];
  const whole = tokenizer.encodeChat(conversation, { addGenerationPrompt: false, upTo });
  const answerTokens = startsWith(whole, promptTokens)
    ? whole.slice(promptTokens.length)
    : encodeAnswerApart(prompt, conversation, sample.answer, tokenizer, upTo);
  // Without an end the model never learns to stop; some templates leave it to the tokenizer.
  if (!answerTokens.some((token) => tokenizer.eosTokens.includes(token))) {
    answerTokens.push(...tokenizer.eosTokens.slice(0, 1));
  }
  return {
    tokens: Uint32Array.from([...promptTokens, ...answerTokens]),
    promptLength: promptTokens.length,
  };
}

/**
 * Renders samples for SFT and importance.
 * @throws {InvalidRequest} when a sample has no answer, one is too long and that is refused, or none
 * is left.
 */
export function renderSamples(
  samples: Sample[],
  tokenizer: RenderTokenizer,
  settings: RenderSettings,
): Rendered<RenderedSample> {
  const { maxLength, positions = Infinity, systemPrompt = null, tooLong = "refuse" } = settings;
  const upTo = tooLong === "refuse" ? positions : Infinity;
  const all = samples.map((sample, index) => {
    settings.onSample?.(index + 1);
    return renderSample(sample, tokenizer, index, systemPrompt, upTo);
  });
  return limit(samples, all, { name: "max_length", max: maxLength, positions, tooLong }, {
    length: ({ tokens }) => tokens.length,
    cut: ({ tokens, promptLength }, max) =>
      promptLength < max ? { tokens: tokens.slice(0, max), promptLength } : null,
    describe: ({ tokens, promptLength }) =>
      `${tokens.length} tokens (${promptLength} of prompt, ${
        tokens.length - promptLength
      } of answer)`,
  });
}

/**
 * Renders prompts, each (T) u32 up to and with the generation prompt, for generation.
 * @throws {InvalidRequest} when one is too long and that is refused, or none is left.
 */
export function renderPrompts(
  samples: Sample[],
  tokenizer: RenderTokenizer,
  settings: PromptSettings,
): Rendered<Uint32Array> {
  const { maxPromptLength, positions = Infinity, systemPrompt = null, tooLong = "refuse" } =
    settings;
  const upTo = tooLong === "refuse" ? positions : Infinity;
  const all = samples.map(({ prompt }, index) => {
    settings.onSample?.(index + 1);
    return Uint32Array.from(
      encodePrompt(withSystemPrompt(prompt, systemPrompt), tokenizer, index, upTo),
    );
  });
  const bound: Bound = { name: "max_prompt_length", max: maxPromptLength, positions, tooLong };
  return limit(samples, all, bound, {
    length: (tokens) => tokens.length,
    cut: (tokens, max) => tokens.slice(tokens.length - max),
    describe: (tokens) => `${tokens.length} tokens of prompt`,
  });
}

/**
 * Positions a model has left for a prompt when it is to generate `maxNewTokens`.
 * @throws {InvalidRequest} at `param` when there is none.
 */
export function promptPositions(
  { maxPositions }: { maxPositions: number },
  maxNewTokens: number,
  param: string,
): number {
  if (maxNewTokens < maxPositions) return maxPositions - maxNewTokens;
  throw new InvalidRequest(
    `Cannot generate ${maxNewTokens} tokens: the model has ${maxPositions} positions for prompt and ` +
      `completion together. Lower ${param}`,
    param,
    "context_length_exceeded",
  );
}

function withSystemPrompt(prompt: Message[], systemPrompt: string | null): Message[] {
  if (systemPrompt === null || prompt.some(({ role }) => role === "system")) return prompt;
  return [{ role: "system", content: systemPrompt }, ...prompt];
}

function encodePrompt(
  prompt: Message[],
  tokenizer: RenderTokenizer,
  index: number,
  upTo: number,
): number[] {
  const tokens = tokenizer.encodeChat(prompt, { addGenerationPrompt: true, upTo });
  if (tokens.length === 0) {
    throw new InvalidRequest(
      `Cannot render sample ${index + 1}: its prompt has no token to predict from`,
    );
  }
  return tokens;
}

/** The answer's tokens when those of the whole conversation don't begin with those of the prompt. */
function encodeAnswerApart(
  prompt: Message[],
  conversation: Message[],
  answer: string,
  tokenizer: RenderTokenizer,
  upTo: number,
): number[] {
  // Where only tokens merged across the border, the text still tells what the template adds.
  const before = tokenizer.renderChat(prompt, { addGenerationPrompt: true });
  const whole = tokenizer.renderChat(conversation, { addGenerationPrompt: false });
  const rest = whole.startsWith(before) ? whole.slice(before.length) : answer;
  return tokenizer.encode(rest, { addSpecial: false, upTo });
}

function startsWith(whole: number[], start: number[]): boolean {
  return whole.length > start.length && start.every((token, index) => whole[index] === token);
}

/** The setting that bounds a length, and the model's own bound. */
interface Bound {
  name: "max_length" | "max_prompt_length";
  max: number;
  positions: number;
  tooLong: TooLong;
}

/** Applies one rule to everything longer than the bound, in tokens. */
function limit<T>(
  given: Sample[],
  all: T[],
  { name, max: asked, positions, tooLong }: Bound,
  { length, cut, describe }: {
    length(sample: T): number;
    cut(sample: T, max: number): T | null;
    describe(sample: T): string;
  },
): Rendered<T> {
  const max = Math.min(asked, positions);
  const tooLongOnes = all.map((_, index) => index).filter((index) => length(all[index]) > max);
  if (tooLong === "refuse" && tooLongOnes.length > 0) {
    const [first] = tooLongOnes;
    const longest = tooLongOnes.reduce((most, index) => Math.max(most, length(all[index])), 0);
    const bound = asked <= positions
      ? `${name} is ${asked}`
      : `the model has ${positions} positions for it`;
    // What is longer than the model's positions was not rendered to its end.
    const atLeast = (length: number) => length > positions ? "at least " : "";
    throw new InvalidRequest(
      `Cannot use ${sampleName(given[first], first + 1)}: it has ${atLeast(length(all[first]))}` +
        `${
          describe(all[first])
        }, ${bound}; ${tooLongOnes.length} of ${all.length} samples are too ` +
        `long, the longest has ${atLeast(longest)}${longest}. ` +
        (longest <= positions ? `Set ${name} to ${longest} or drop them` : "Shorten or drop them"),
      asked <= positions ? name : "file",
      asked <= positions ? undefined : "context_length_exceeded",
    );
  }
  const samples: T[] = [], indices: number[] = [];
  let truncated = 0;
  for (const [index, sample] of all.entries()) {
    const fits = length(sample) <= max;
    const kept = fits ? sample : tooLong === "truncate" ? cut(sample, max) : null;
    if (kept === null) continue;
    if (!fits) truncated++;
    samples.push(kept);
    indices.push(index);
  }
  if (samples.length === 0) {
    throw new InvalidRequest(
      all.length === 0
        ? "Cannot go on without samples: none was given"
        : `Cannot go on without samples: none of ${all.length} fits ${name} = ${max}; raise it`,
      name,
    );
  }
  return { samples, indices, truncated, skipped: all.length - samples.length };
}
