import { assertEquals } from "@std/assert";
import {
  renderPrompts,
  renderSample,
  renderSamples,
  type RenderTokenizer,
} from "../../../lib/data/render.ts";
import type { Message, Sample } from "../../../lib/data/record.ts";
import { InvalidRequest } from "../../../lib/errors.ts";
import { assertThrows } from "../../asserts.ts";

// One token a character; "\u0001" is the end of turn, "\u0002" begins a turn.
const end = "\u0001", begin = "\u0002";
const codes = (text: string) => [...text].map((character) => character.codePointAt(0)!);

function fakeTokenizer(
  renderChat: (messages: readonly Message[], addGenerationPrompt: boolean) => string,
  encode = codes,
): RenderTokenizer {
  const render: RenderTokenizer["renderChat"] = (messages, options) =>
    renderChat(messages as Message[], options?.addGenerationPrompt ?? false);
  return {
    encode: (text) => encode(text),
    renderChat: render,
    encodeChat: (messages, options) => encode(render(messages, options)),
    eosTokens: [1],
  };
}

const chatml = fakeTokenizer((messages, addGenerationPrompt) =>
  messages.map(({ role, content }) => `${begin}${role}\n${content}${end}\n`).join("") +
  (addGenerationPrompt ? `${begin}assistant\n` : "")
);

const sample = (question: string, answer: string | null): Sample => ({
  prompt: [{ role: "user", content: question }],
  answer,
  system: null,
  item: {},
});

const shown = ({ tokens, promptLength }: { tokens: Uint32Array; promptLength: number }) => {
  const text = String.fromCodePoint(...tokens);
  return [text.slice(0, promptLength), text.slice(promptLength)];
};

Deno.test("render: the prompt with its generation prompt, then the answer with its end", () => {
  assertEquals(shown(renderSample(sample("2+2?", "4"), chatml, 0)), [
    `${begin}user\n2+2?${end}\n${begin}assistant\n`,
    `4${end}\n`,
  ]);
});

Deno.test("render: a system prompt goes first, unless the sample has its own", () => {
  const [prompt] = shown(renderSample(sample("2+2?", "4"), chatml, 0, "Be brief."));
  assertEquals(prompt.startsWith(`${begin}system\nBe brief.${end}\n${begin}user\n`), true);
  const own = sample("2+2?", "4");
  own.prompt.unshift({ role: "system", content: "Own." });
  assertEquals(
    renderSample(own, chatml, 0, "Be brief."),
    renderSample(own, chatml, 0),
  );
});

Deno.test("render: an end is added where the template writes none", () => {
  const plain = fakeTokenizer((messages) => messages.map(({ content }) => content).join(""));
  assertEquals(shown(renderSample(sample("2+2=", "4"), plain, 0)), ["2+2=", `4${end}`]);
});

Deno.test("render: tokens that merge across the border are cut apart at it", () => {
  // " 4" is one token of its own when the text is tokenised whole.
  const merging = (text: string) => codes(text.replaceAll(" 4", "\u0003"));
  const tokenizer = fakeTokenizer(
    (messages, generation) =>
      messages.map(({ role, content }) => role === "user" ? content + "= " : content + end)
        .join("") + (generation ? "" : ""),
    merging,
  );
  assertEquals(shown(renderSample(sample("2+2", "4"), tokenizer, 0)), ["2+2= ", `4${end}`]);
});

Deno.test("render: a template that shows the prompt in another way keeps the prompt of generation", () => {
  const thinking = fakeTokenizer((messages, generation) =>
    messages.map(({ content }) => content + end).join("") + (generation ? "<think>" : "")
  );
  assertEquals(shown(renderSample(sample("2+2?", "4"), thinking, 0)), [
    `2+2?${end}<think>`,
    `4${end}`,
  ]);
});

Deno.test("render: a sample without an answer is refused by its number", () => {
  assertThrows(
    () => renderSamples([sample("a", "b"), sample("a", null)], chatml, { maxLength: 99 }),
    (error) =>
      error instanceof InvalidRequest && /sample 2 \("a"\): it has no answer/.test(error.message),
  );
});

Deno.test("render: what is too long is refused, cut or left out, as asked", () => {
  const samples = [sample("a", "b"), sample("a", "b".repeat(9)), sample("a".repeat(40), "b")];
  const [short, middle, long] = samples.map((s, i) => renderSample(s, chatml, i));
  const maxLength = short.tokens.length + 3;

  assertThrows(
    () => renderSamples(samples, chatml, { maxLength }),
    (error) =>
      error instanceof InvalidRequest && error.param === "max_length" &&
      error.message.includes(`sample 2 ("a"): it has ${middle.tokens.length} tokens`) &&
      error.message.includes(`2 of 3 samples are too long, the longest has ${long.tokens.length}`),
  );

  assertThrows(
    () => renderSamples(samples, chatml, { maxLength: 99, positions: maxLength }),
    (error) =>
      error instanceof InvalidRequest && error.code === "context_length_exceeded" &&
      error.message.includes(`the model has ${maxLength} positions`),
  );

  const skipped = renderSamples(samples, chatml, { maxLength, tooLong: "skip" });
  assertEquals(skipped, { samples: [short], indices: [0], truncated: 0, skipped: 2 });

  const cut = renderSamples(samples, chatml, { maxLength, tooLong: "truncate" });
  const middleCut = { ...middle, tokens: middle.tokens.slice(0, maxLength) };
  assertEquals(cut, { samples: [short, middleCut], indices: [0, 1], truncated: 1, skipped: 1 });

  assertThrows(
    () => renderSamples(samples.slice(2), chatml, { maxLength, tooLong: "truncate" }),
    /none of 1 fits max_length/,
  );
});

Deno.test("render: of a sample longer than the model a part is rendered, and the error says so", () => {
  const asked: (number | undefined)[] = [];
  const cut: RenderTokenizer = {
    ...chatml,
    encodeChat(messages, options) {
      asked.push(options?.upTo);
      return chatml.encodeChat(messages, options).slice(0, (options?.upTo ?? Infinity) + 5);
    },
  };
  const samples = [sample("a", "b"), sample("x".repeat(1000), "b")];
  const numbers: number[] = [];
  const onSample = (number: number) => numbers.push(number);
  assertThrows(
    () => renderSamples(samples, cut, { maxLength: 40, positions: 100, onSample }),
    /sample 2 .*at least 10\d tokens .*max_length is 40; 1 of 2 .*at least 10\d/,
  );
  assertThrows(
    () => renderPrompts(samples, cut, { maxPromptLength: Infinity, positions: 100, onSample }),
    /sample 2 .*at least 105 tokens of prompt, the model has 100 positions/,
  );
  assertEquals([numbers, new Set(asked)], [[1, 2, 1, 2], new Set([100])]);
});

Deno.test("render: prompts end with the generation prompt and lose their beginning when cut", () => {
  const samples = [sample("a", null), sample("abcdef", null)];
  const { samples: [short, long] } = renderPrompts(samples, chatml, { maxPromptLength: 99 });
  assertEquals(String.fromCodePoint(...short), `${begin}user\na${end}\n${begin}assistant\n`);
  const maxPromptLength = short.length;
  assertThrows(
    () => renderPrompts(samples, chatml, { maxPromptLength }),
    (error) => error instanceof InvalidRequest && error.param === "max_prompt_length",
  );
  const cut = renderPrompts(samples, chatml, { maxPromptLength, tooLong: "truncate" });
  assertEquals(cut.samples, [short, long.slice(5)]);
  assertEquals([cut.truncated, cut.skipped], [1, 0]);
  const skipped = renderPrompts(samples, chatml, { maxPromptLength, tooLong: "skip" });
  assertEquals([skipped.indices, skipped.skipped], [[0], 1]);
});
