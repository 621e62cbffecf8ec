import { assertEquals } from "@std/assert";
import { readSamples } from "../../../lib/data/dataset.ts";
import { InvalidRequest } from "../../../lib/errors.ts";
import { assertThrows } from "../../asserts.ts";

Deno.test("sample: the four shapes become one", () => {
  const samples = readSamples([
    { question: "2+2?", answer: "#### 4", system: "system1", id: 7 },
    { prompt: "Say hi", completion: "hi" },
    { instruction: "Add", input: "1 and 2", output: "3", system: "system2" },
    { instruction: "Sing", input: "", output: "la" },
    {
      messages: [
        { role: "system", content: "Be brief." },
        { role: "user", content: "Hi" },
        { role: "assistant", content: "Hello" },
      ],
    },
  ]);
  assertEquals(samples.map(({ prompt, answer, system }) => ({ prompt, answer, system })), [
    { prompt: [{ role: "user", content: "2+2?" }], answer: "#### 4", system: "system1" },
    { prompt: [{ role: "user", content: "Say hi" }], answer: "hi", system: null },
    { prompt: [{ role: "user", content: "Add\n1 and 2" }], answer: "3", system: "system2" },
    { prompt: [{ role: "user", content: "Sing" }], answer: "la", system: null },
    {
      prompt: [{ role: "system", content: "Be brief." }, { role: "user", content: "Hi" }],
      answer: "Hello",
      system: null,
    },
  ]);
  assertEquals(samples[0].item.id, 7);
});

Deno.test("sample: TRL's conversations, RL records without a completion, numbers as answers", () => {
  const turn = [{ role: "user", content: "2+2?" }];
  const samples = readSamples([
    { prompt: turn, completion: [{ role: "assistant", content: "4" }] },
    { prompt: turn, answer: 4 },
    { messages: turn, answer: "4" },
    { question: "2+2?" },
    { question: "2+2?", answer: " " },
    { question: "2+2?", answer: "4", system: "undecided" },
  ]);
  assertEquals(samples.map(({ answer }) => answer), ["4", "4", "4", null, null, "4"]);
  for (const { prompt, system } of samples) assertEquals([prompt, system], [turn, null]);
});

for (
  const [record, message] of [
    [[], /samples\[0\]: it is a list, wanted an object/],
    [{ text: "a" }, /its fields are "text", wanted "messages"/],
    [{ question: 1, answer: { a: 1 } }, /field "answer" is an object, wanted text/],
    [{ question: 1 / 0 }, /field "question" is a number of more than 53 bits/],
    [{ question: "a", answer: 2 ** 53 }, /field "answer" is a number of more than 53 bits/],
    [{ question: "\ud83d" }, /field "question" holds half of a surrogate pair/],
    [
      { messages: [{ role: "user", content: "a\udc00" }] },
      /field "messages\[0\]\.content" holds half of a surrogate pair/,
    ],
    [{ question: "  ", answer: "4" }, /field "question" is empty/],
    [
      { question: "a", answer: "b", system: "You are kind." },
      /field "system" is "You are kind\.", wanted "system1"/,
    ],
    [{ messages: [] }, /field "messages" is an empty list/],
    [
      { messages: [{ role: "tool", content: "a" }] },
      /field "messages\[0\]\.role" is "tool", wanted "system", "user" or "assistant"/,
    ],
    [
      { messages: [{ role: "user", content: [] }] },
      /field "messages\[0\]\.content" is a list, wanted text/,
    ],
    [{ messages: [{ role: "assistant", content: "a" }] }, /holds only an assistant message/],
    [
      { prompt: "a", completion: [{ role: "user", content: "b" }] },
      /field "completion" has messages of user/,
    ],
  ] as const
) {
  Deno.test(`sample: refuses ${JSON.stringify(record)}`, () => {
    assertThrows(
      () => readSamples([record]),
      (error) =>
        error instanceof InvalidRequest && error.param === "samples[0]" &&
        message.test(error.message),
    );
  });
}
