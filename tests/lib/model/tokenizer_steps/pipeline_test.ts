import { assert, assertEquals } from "@std/assert";
import { InvalidFile } from "../../../../lib/errors.ts";
import { TokenizerPipeline } from "../../../../lib/model/tokenizer_steps/pipeline.ts";
import { assertThrows } from "../../../asserts.ts";
import { tinyTokenizerJson } from "../tiny_model.ts";

interface Case {
  name: string;
  tokenizer: Record<string, unknown>;
  texts: [string, number[]][] | null;
  decoded: [number[], string][];
}

const { models, cases }: { models: Record<string, unknown>; cases: Case[] } = JSON.parse(
  Deno.readTextFileSync(new URL("../../../golden/tokenizers/cases.json", import.meta.url)),
);
const opened = ({ tokenizer }: Case) => {
  const { model } = tokenizer;
  const whole = typeof model === "string" ? { ...tokenizer, model: models[model] } : tokenizer;
  return new TokenizerPipeline(whole, 4096, "test");
};

/** Refused here though Hugging Face's library takes them. */
const notDone =
  /^(normalizer \{"type": "(Nmt|ByteLevel|BertNormalizer)"|pre_tokenizer \{"type": "(BertPreTokenizer|UnicodeScripts|FixedLength)"|decoder \{"type": "(WordPiece|CTC)"|wordpiece|wordlevel|unigram|suffix of words|byte fallback without|damaged post_processor .*<none>|.*"pattern": \{"String": ""\})/;

Deno.test("tokenizers: every step and setting gives the ids and texts of Hugging Face's library, or is refused by name", () => {
  let compared = 0;
  for (const one of cases) {
    if (one.texts === null || notDone.test(one.name)) {
      assertThrows(() => opened(one), InvalidFile, one.name);
      continue;
    }
    const pipeline = opened(one);
    for (const [text, ids] of one.texts) {
      assertEquals(
        pipeline.encode(text, { special: true }),
        ids,
        `${one.name}: ${JSON.stringify(text)}`,
      );
    }
    for (const [ids, text] of one.decoded) {
      assertEquals(pipeline.decode(ids), text, `${one.name}: ${ids}`);
    }
    compared += one.texts.length + one.decoded.length;
  }
  assert(compared > 4000, `only ${compared} compared`);
});

Deno.test("tokenizers: a damaged step is refused with its name and the file's", () => {
  const refused = (change: Record<string, unknown>, ...words: string[]) =>
    assertThrows(
      () => new TokenizerPipeline({ ...tinyTokenizerJson(), ...change }, 264, "/a/model"),
      (error: Error) => {
        assert(error instanceof InvalidFile, `${error.name}: ${error.message}`);
        for (const word of ["/a/model", ...words]) {
          assert(error.message.includes(word), `${word} in: ${error.message}`);
        }
        return true;
      },
    );
  refused({ pre_tokenizer: { type: "Nothing" } }, "pre_tokenizer", "Nothing");
  refused({ pre_tokenizer: [] }, "pre_tokenizer", "without a type");
  refused({ pre_tokenizer: "ByteLevel" }, "pre_tokenizer");
  const split = { type: "Split", pattern: { String: " " }, behavior: "Isolated", invert: false };
  refused({ pre_tokenizer: { ...split, behavior: 1 } }, "Split", "behavior 1");
  refused({ pre_tokenizer: { ...split, invert: "no" } }, "Split", 'invert "no"');
  refused({ pre_tokenizer: { ...split, pattern: { Regex: "(a" } } }, "Split", "pattern");
  refused({ pre_tokenizer: { ...split, pattern: { Regex: "a".repeat(2049) } } }, "2049 characters");
  refused(
    { pre_tokenizer: { ...split, pattern: { String: "a".repeat(2049) } } },
    "2049 characters",
  );
  // A pattern that the engine finds too large when it is to match.
  const large = `(?i:${"ab".repeat(1000)}){9}{9}`;
  refused({ pre_tokenizer: { ...split, pattern: { Regex: large } } }, "Split", "pattern");
  const long = { id: 261, content: "x".repeat(2 ** 22 + 1) };
  refused({ added_tokens: [long] }, "4194305 characters");
  refused({ normalizer: { type: "Prepend", prepend: 1 } }, "normalizer", "Prepend", "prepend 1");
  refused({ decoder: { type: "Strip", content: "a", start: 1e9, stop: 0 } }, "decoder", "start");
  const nested = (depth: number): unknown =>
    depth === 0 ? split : { type: "Sequence", pretokenizers: [nested(depth - 1)] };
  new TokenizerPipeline({ ...tinyTokenizerJson(), pre_tokenizer: nested(8) }, 264, "test");
  refused({ pre_tokenizer: nested(9) }, "Sequence", "8 deep");
  refused({ added_tokens: {} }, "added_tokens");
  refused({ added_tokens: [{ id: 261, content: "" }] }, "no content");
  refused({ added_tokens: [{ id: 261, content: "x", single_word: 1 }] }, '"x"', "single_word 1");
  refused({ added_tokens: [{ id: 260, content: "x" }] }, '"x"', "260");
  refused({ added_tokens: [{ id: 263, content: "new" }] }, '"new"', "263", "go on with 261");
  const few = { type: "BPE", vocab: { a: 0 }, merges: [], unk_token: "<none>" };
  refused({ model: few, added_tokens: [] }, "unk_token", "<none>");
  refused({ added_tokens: [{ id: 263, content: "<|end|>" }] }, "<|end|>", "263", "260");
});

Deno.test("tokenizers: names of Object.prototype are tokens like any other", () => {
  const json = tinyTokenizerJson();
  const model = json.model as { vocab: Record<string, number> };
  const text = JSON.stringify(model.vocab).slice(0, -1) + ',"__proto__":261,"constructor":262}';
  const vocab = JSON.parse(text);
  const pipeline = new TokenizerPipeline({ ...json, model: { ...model, vocab } }, 264, "test");
  assertEquals([261, 262, 263].map((id) => pipeline.tokenOf(id)), [
    "__proto__",
    "constructor",
    undefined,
  ]);
  assertEquals(pipeline.idOf("toString"), undefined);
  assertEquals(
    pipeline.decode(pipeline.encode("__proto__ constructor", { special: true })),
    "__proto__ constructor",
  );
});

Deno.test("tokenizers: byte tokens keep U+FEFF in front, and bytes that are no UTF-8 spoil no others", () => {
  const fallback = cases.find(({ name }) => name === 'decoder {"type": "ByteFallback"}')!;
  const pipeline = opened(fallback);
  const bytes = (...values: number[]) =>
    values.map((byte) => pipeline.idOf(`<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`)!);
  assertEquals(pipeline.decode(bytes(0xef, 0xbb, 0xbf, 0x61)), "\ufeffa");
  assertEquals(pipeline.decode(bytes(0x61, 0xe4, 0xbd, 0x62)), "a\ufffdb");
});
