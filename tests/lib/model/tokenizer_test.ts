import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { InvalidFile, InvalidRequest } from "../../../lib/errors.ts";
import { ggufTokenizerParts } from "../../../lib/model/gguf_tokenizer.ts";
import { openModel } from "../../../lib/model/open.ts";
import { ChatTokenizer, type TokenizerParts } from "../../../lib/model/tokenizer.ts";
import { assertThrows } from "../../asserts.ts";
import { inFolder, template, tinyTokenizerJson, tinyTokens, writeHfFolder } from "./tiny_model.ts";

const fits = { vocabSize: 264, eosTokens: [260] };

function tokenizerOf(change: Partial<TokenizerParts> = {}, config = fits): ChatTokenizer {
  const specialTokens = { bos_token: "<|start|>", eos_token: "<|end|>" };
  const parts = { tokenizer: tinyTokenizerJson(), chatTemplate: template, specialTokens };
  return new ChatTokenizer({ ...parts, ...change }, config, "test");
}

/** The ids of ASCII characters are their bytes. */
const ascii = (text: string) => [...text].map((c) => c.charCodeAt(0));
const space = tinyTokens.indexOf("Ġ");

Deno.test("tokenizer: merges, digits and special tokens", () => {
  const tokenizer = tokenizerOf();
  assertEquals(tokenizer.vocabSize, 261);
  assertEquals(tokenizer.eosTokens, [260]);
  assertEquals(tokenizer.encode("the the"), [...ascii("t"), 256, 258]);
  assertEquals(tokenizer.encode("12 3"), [...ascii("12"), space, ...ascii("3")]);
  assertEquals(tokenizer.encode("a<|end|>b"), [...ascii("a"), 260, ...ascii("b")]);
  assertEquals(tokenizer.encode(""), []);
  assertEquals(tokenizer.decode([]), "");
  assertEquals(tokenizer.decode([116, 256, 258, 260]), "the the<|end|>");
  assertEquals(tokenizer.decode([116, 256, 260], { skipSpecial: true }), "the");
  // Rows of the embedding without a token say nothing.
  assertEquals(tokenizer.decode([116, 263, 256]), "the");
  assertEquals([tokenizer.isSpecial(259), tokenizer.isSpecial(258)], [true, false]);
});

Deno.test("tokenizer: digits and spaces are Unicode's, as in Hugging Face's own tokenizer", () => {
  const json = tinyTokenizerJson();
  const model = json.model as { vocab: Record<string, number>; merges: string[] };
  // Merges that happen only within a piece: of two Arabic-Indic digits (0xd9 0xa3 is "Ù£" each), and of
  // U+FEFF's last byte "¿" with "!". The digits are two pieces; U+FEFF, no space, is one with "!".
  model.vocab["Ù£"] = 261;
  model.vocab["Ù£Ù£"] = 262;
  model.vocab["¿!"] = 263;
  model.merges.push("Ù £", "Ù£ Ù£", "¿ !");
  const tokenizer = tokenizerOf({ tokenizer: json });
  assertEquals(tokenizer.encode("\u0663\u0663"), [261, 261]);
  assertEquals(tokenizer.encode("\ufeff!"), [0xef, 0xbb, 263]);
});

Deno.test("tokenizer: every text comes back, every stream adds up", () => {
  const tokenizer = tokenizerOf();
  fc.assert(fc.property(fc.string({ unit: "binary" }), (text) => {
    assertEquals(tokenizer.decode(tokenizer.encode(text)), text);
  }));
  const tokens = fc.array(fc.nat(263), { maxLength: 40 });
  fc.assert(fc.property(tokens, fc.boolean(), (ids, skipSpecial) => {
    const whole = tokenizer.decode(ids, { skipSpecial });
    const stream = tokenizer.streamDecoder({ skipSpecial });
    const pieces = ids.map((id) => stream.push(id));
    assertEquals(pieces.join("") + stream.flush(), whole);
    assertEquals(decodeInCalls(tokenizer, ids, skipSpecial), whole);
  }));
});

/** Decodes each token by a new decoder that goes on from the state of the last. */
function decodeInCalls(tokenizer: ChatTokenizer, ids: number[], skipSpecial = true): string {
  let stream = tokenizer.streamDecoder({ skipSpecial });
  const pieces = ids.map((id) => {
    const piece = stream.push(id);
    stream = tokenizer.streamDecoder({ skipSpecial, state: structuredClone(stream.state()) });
    return piece;
  });
  return pieces.join("") + stream.flush();
}

Deno.test("tokenizer: of a text that is far too long a part is enough", () => {
  const tokenizer = tokenizerOf();
  const encoded = (text: string) => tokenizer.encode(text, { upTo: 10 });
  assertEquals(encoded("the").length, tokenizer.encode("the").length);
  const whole = tokenizer.encode("x".repeat(300));
  assertEquals([whole.length, encoded("x".repeat(300))], [300, whole]);
  const part = encoded("x".repeat(1e6)).length;
  assert(part > 10 && part < 1000, `${part} tokens`);
});

Deno.test("tokenizer: a stream holds back an incomplete character", () => {
  const stream = tokenizerOf().streamDecoder();
  const [a, b, c, d] = new TextEncoder().encode("😀");
  assertEquals([a, b, c, d, 260, 33].map((id) => stream.push(id)), ["", "", "", "😀", "", "!"]);
  assertEquals([stream.push(a), stream.flush()], ["", "\ufffd"]);
});

Deno.test("tokenizer: conversations", () => {
  const tokenizer = tokenizerOf();
  const messages = [{ role: "user", content: "the" }];
  const text = tokenizer.renderChat(messages, { addGenerationPrompt: true });
  assertEquals(text, "<|start|>user\nthe<|end|><|start|>assistant\n");
  assertEquals(tokenizer.encodeChat(messages), tokenizer.encode("<|start|>user\nthe<|end|>"));
  assert(tokenizer.hasChatTemplate);

  const plain = tokenizerOf({ chatTemplate: null });
  assert(!plain.hasChatTemplate);
  const talk = [...messages, { role: "assistant", content: "he" }, { role: "user", content: "a" }];
  assertEquals(
    plain.renderChat(talk, { addGenerationPrompt: true }),
    "User: the\n\nAssistant: he<|end|>\n\nUser: a\n\nAssistant:",
  );
  const all =
    "{{ bos_token }}|{{ eos_token }}|{% if tools is none %}no tools{% endif %}|{{ strftime_now('%Y') | length }}";
  assertEquals(tokenizerOf({ chatTemplate: all }).renderChat([]), "<|start|>|<|end|>|no tools|4");
  const strict =
    "{% if messages[0].role != 'user' %}{{ raise_exception('user first') }}{% endif %}";
  assertThrows(
    () => tokenizerOf({ chatTemplate: strict }).renderChat([{ role: "system", content: "" }]),
    (error: Error) => error instanceof InvalidRequest && error.message.includes("user first"),
  );
  assertThrows(() => tokenizerOf({ chatTemplate: "{% if %}" }), InvalidFile);
});

Deno.test("tokenizer: BOS comes once", () => {
  const withBos = {
    ...tinyTokenizerJson(),
    post_processor: {
      type: "TemplateProcessing",
      single: [{ SpecialToken: { id: "<|start|>", type_id: 0 } }, { Sequence: { id: "A" } }],
      pair: [],
      special_tokens: { "<|start|>": { id: "<|start|>", ids: [259], tokens: ["<|start|>"] } },
    },
  };
  const messages = [{ role: "user", content: "a" }];
  const own = tokenizerOf({ tokenizer: withBos });
  assertEquals(own.bosToken, 259);
  assertEquals(own.encode("a"), [259, 97]);
  assertEquals(own.encode("a", { addSpecial: false }), [97]);
  assertEquals(own.encodeChat(messages).filter((id) => id === 259).length, 1);
  const plain = tokenizerOf({ tokenizer: withBos, chatTemplate: null });
  assertEquals(plain.encodeChat(messages), [
    259,
    ...plain.encode("User: a", { addSpecial: false }),
  ]);
  assertEquals(tokenizerOf().bosToken, null);
});

Deno.test("tokenizer: a folder's template comes from its own file or its config", () =>
  inFolder(async (folder) => {
    await writeHfFolder(folder);
    const rendered = async () => {
      const model = await openModel(folder);
      model.close();
      return model.tokenizer.renderChat([{ role: "user", content: "a" }]);
    };
    assertEquals(await rendered(), "<|start|>user\na<|end|>");
    const chat_template = [
      { name: "tool_use", template: "no" },
      { name: "default", template: "{{ messages[0].content }}!" },
    ];
    await Deno.writeTextFile(`${folder}/tokenizer_config.json`, JSON.stringify({ chat_template }));
    assertEquals(await rendered(), "a!");
    await Deno.writeTextFile(`${folder}/chat_template.jinja`, "{{ messages[0].content }}?");
    assertEquals(await rendered(), "a?");
  }));

Deno.test("tokenizer: the tiny model in the repository", async () => {
  const folder = new URL("../../../models/tiny", import.meta.url).pathname;
  const model = await openModel(folder);
  for (const name of model.tensors.keys()) await model.read(name);
  const text = "What is 12 + 30? <é>";
  assertEquals(model.tokenizer.decode(model.tokenizer.encode(text)), text);
  assert(model.tokenizer.hasChatTemplate);
  assert(model.tokenizer.eosTokens.length > 0);
  model.close();
});

// Llama 2's kind of tokenizer: scores, byte tokens, ▁ for spaces.
const spm = [
  "<unk>",
  "<s>",
  "</s>",
  ...[...Array(256).keys()].map((byte) =>
    `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`
  ),
  "▁",
  "a",
  "b",
  "ab",
  "▁a",
  "▁ab",
  "ba",
];

Deno.test("tokenizer: SentencePiece from GGUF merges by score and falls back to bytes", () => {
  const parts = ggufTokenizerParts(
    new Map<string, never>(Object.entries({
      "tokenizer.ggml.model": "llama",
      "tokenizer.ggml.tokens": spm,
      // The later a piece, the lower its score, as SentencePiece numbers them.
      "tokenizer.ggml.scores": Float32Array.from(spm, (_, id) => -id),
      "tokenizer.ggml.token_type": Int32Array.from(
        spm,
        (_, id) => id === 0 ? 2 : id < 3 ? 3 : id < 259 ? 6 : 1,
      ),
      "tokenizer.ggml.bos_token_id": 1,
      "tokenizer.ggml.eos_token_id": 2,
      "tokenizer.ggml.unknown_token_id": 0,
    }) as [string, never][]),
    "test",
  );
  const tokenizer = new ChatTokenizer(parts, { vocabSize: spm.length, eosTokens: [] }, "test");
  const id = (token: string) => spm.indexOf(token);
  // "ab" has a better score than "▁a" and "ba"; ▁ab joins ▁ and ab.
  assertEquals(tokenizer.encode("ab ba"), [1, id("▁ab"), id("▁"), id("ba")]);
  assertEquals(tokenizer.encode("aba", { addSpecial: false }), [id("▁ab"), id("a")]);
  assertEquals(tokenizer.encode("é", { addSpecial: false }), [
    id("▁"),
    id("<0xC3>"),
    id("<0xA9>"),
  ]);
  assertEquals([...tokenizer.eosTokens, tokenizer.bosToken], [2, 1]);
  for (const text of ["ab ba", "é a 😀 b", " a  b"]) {
    const ids = tokenizer.encode(text);
    assertEquals(tokenizer.decode(ids, { skipSpecial: true }), text);
    const stream = tokenizer.streamDecoder();
    assertEquals(ids.map((i) => stream.push(i)).join("") + stream.flush(), text);
    assertEquals(decodeInCalls(tokenizer, ids), text);
  }
});
