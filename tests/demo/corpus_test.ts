// The demo's generator: deterministic, splits apart, answers right; and the models' tokenizer covers it.

import { assert, assertEquals } from "@std/assert";
import { Template } from "@huggingface/jinja";
import { Tokenizer } from "@huggingface/tokenizers";
import {
  classificationExamples,
  classificationPrompt,
  demoSamples,
  pretrainingText,
  taggedSystemPrompt,
} from "../../demo/corpus.ts";
import { lands, splitOf } from "../../demo/world.ts";
import { rolePlayPrompt } from "../../lib/par/classify.ts";

const models = new URL("../../models/", import.meta.url);
const folders = ["tiny", "teacher_a", "teacher_b", "teacher_c"];

function take<T>(records: Iterable<T>, count: number): T[] {
  const list: T[] = [];
  for (const record of records) {
    if (list.length === count) break;
    list.push(record);
  }
  return list;
}

/** Value of "a + b", "a - b" or "a * b". */
function value(expression: string): number {
  const [a, operator, b] = expression.split(" ");
  assert(["+", "-", "*"].includes(operator), expression);
  return operator === "+" ? +a + +b : operator === "-" ? +a - +b : +a * +b;
}

Deno.test("the same seed gives the same samples, another seed others", () => {
  const sizes = { train: 60, heldOut: 20 };
  assertEquals(demoSamples(4, sizes), demoSamples(4, sizes));
  assert(JSON.stringify(demoSamples(4, sizes)) !== JSON.stringify(demoSamples(5, sizes)));
  assertEquals(take(pretrainingText(1), 50), take(pretrainingText(1), 50));
});

Deno.test("samples have both systems in equal number and no question twice", () => {
  const { train, heldOut } = demoSamples(0, { train: 600, heldOut: 300 });
  for (const [list, count] of [[train, 600], [heldOut, 300]] as const) {
    assertEquals(list.length, count);
    assertEquals(list.filter((s) => s.system === "system1").length, count / 2);
  }
  const questions = [...train, ...heldOut].map((s) => s.question);
  assertEquals(new Set(questions).size, questions.length);
});

Deno.test("worked answers are right in every step and end with the result", () => {
  const { train } = demoSamples(1, { train: 800, heldOut: 0 });
  const worked = train.filter((s) => s.answer.startsWith("<reasoning>"));
  assert(worked.length > 200);
  for (const { answer } of worked) {
    const match = /^<reasoning>(.+)\.<\/reasoning>\n<answer>(\d+)<\/answer>$/.exec(answer);
    assert(match, answer);
    const steps = match[1].split(". ");
    assert(steps.length >= 2, answer);
    for (const step of steps) {
      const [left, right] = step.split(" = ");
      assertEquals(value(left), Number(right));
    }
    assertEquals(steps.at(-1)!.split(" = ")[1], match[2]);
  }
});

Deno.test("quick answers are right: sums and facts", () => {
  const { train } = demoSamples(2, { train: 800, heldOut: 0 });
  let sums = 0, facts = 0;
  for (const { question, answer, kind } of train) {
    const sum = /(\d+ [-+*] \d+)/.exec(question);
    if (sum) {
      sums++;
      assertEquals(answer, String(value(sum[1])));
    }
    if (kind === "capital" || kind === "flag" || kind === "animal") {
      facts++;
      const land = lands.find((l) => question.includes(l.name))!;
      assertEquals(answer, land[kind === "flag" ? "colour" : kind]);
    }
  }
  assert(sums > 50 && facts > 30);
});

Deno.test("no question of the demo is shown to a teacher or answered in a chat, but for facts in a sentence", () => {
  const { train, heldOut } = demoSamples(0, { train: 400, heldOut: 400 });
  const kept = new Map([...train, ...heldOut].map((sample) => [sample.question, sample]));
  let chats = 0, sentences = 0;
  for (const document of take(pretrainingText(7), 20_000)) {
    if (!("messages" in document)) continue;
    chats++;
    const [question, answer] = document.messages.slice(-2).map((message) => message.content);
    const sample = kept.get(question);
    if (!sample) continue;
    sentences++;
    assert(["capital", "flag", "animal"].includes(sample.kind), question);
    assert(answer !== sample.answer && answer.includes(sample.answer), `${question} ${answer}`);
  }
  assert(sentences > 100);
  assert(chats > 10_000);
  for (const { sample } of take(classificationExamples(7), 3000)) {
    assert(!kept.has(sample.question), sample.question);
  }
});

Deno.test("the teachers learn from the very prompt the server asks them with", () => {
  for (const { question, answer } of demoSamples(6, { train: 20, heldOut: 0 }).train) {
    const prompt = [{ role: "user" as const, content: question }];
    assertEquals(rolePlayPrompt("lorapar-tiny", { prompt, answer, system: null, item: {} }, 0), [
      { role: "user", content: classificationPrompt("lorapar-tiny", question, answer) },
    ]);
  }
});

Deno.test("the three splits have the shares they are said to have", () => {
  const counts = { pretrain: 0, demo: 0, held: 0 };
  for (let i = 0; i < 20_000; i++) counts[splitOf(`content ${i}`)]++;
  assert(Math.abs(counts.pretrain / 20_000 - 0.55) < 0.02);
  assert(Math.abs(counts.demo / 20_000 - 0.25) < 0.02);
  assert(Math.abs(counts.held / 20_000 - 0.2) < 0.02);
});

for (const name of folders) {
  const read = (file: string) =>
    JSON.parse(Deno.readTextFileSync(new URL(`${name}/${file}`, models)));

  Deno.test(`${name}: the tokenizer gives any text back and keeps markers and digits single`, () => {
    const tokenizer = new Tokenizer(read("tokenizer.json"), read("tokenizer_config.json"));
    const encode = (text: string) => tokenizer.encode(text, { add_special_tokens: false }).ids;
    const { train } = demoSamples(3, { train: 100, heldOut: 0 });
    const texts = [
      ...train.flatMap((s) => [s.question, s.answer]),
      "Zürich 你好 🙂\t x_1 ½ ٣ \u0000\u200b",
      "  two  spaces\n\nand 12345",
    ];
    for (const text of texts) {
      const ids = encode(text);
      assert(ids.every((id) => id >= 0 && id < read("config.json").vocab_size));
      assertEquals(tokenizer.decode(ids, { skip_special_tokens: true }), text);
    }
    for (const marker of ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<answer>"]) {
      assertEquals(encode(marker).length, 1, marker);
    }
    assertEquals(encode("12345").length, 5);
    assertEquals(encode("<|end|>"), [read("config.json").eos_token_id]);
  });

  Deno.test(`${name}: the chat template marks every turn and refuses an unknown role`, () => {
    const template = new Template(read("tokenizer_config.json").chat_template);
    const messages = [
      { role: "system", content: taggedSystemPrompt },
      { role: "user", content: "What is 3 + 4?" },
    ];
    assertEquals(
      template.render({ messages, add_generation_prompt: true }),
      `<|system|>${taggedSystemPrompt}<|end|><|user|>What is 3 + 4?<|end|><|assistant|>`,
    );
    let refused = false;
    try {
      template.render({ messages: [{ role: "tool", content: "" }], add_generation_prompt: false });
    } catch {
      refused = true;
    }
    assert(refused);
  });
}
