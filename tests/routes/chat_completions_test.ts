import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { GpuError, InvalidFile } from "../../lib/errors.ts";
import type { ChatTask } from "../../lib/engine/messages.ts";
import { endless, usual } from "../fake_engine.ts";
import { chatRequest } from "../../routes/chat_request.ts";
import { appFixture, type Json } from "./fixture.ts";

const path = "/v1/chat/completions";
const body = { model: "lorapar-tiny", messages: [{ role: "user", content: "Hi" }] };

/** The chunks of a streamed answer, parsed; "[DONE]" stays a string. */
function chunksOf(text: string): Json[] {
  return text.split("\n\n").filter((block) => block.startsWith("data: "))
    .map((block) => block.slice(6)).map((data) => data === "[DONE]" ? data : JSON.parse(data));
}

Deno.test("a completion has OpenAI's shape, and OpenAI's settings reach the engine", async () => {
  await using f = await appFixture();
  const [status, answer] = await f.post(path, {
    ...body,
    messages: [
      { role: "developer", content: "Be brief." },
      {
        role: "user",
        content: [{ type: "text", text: "H" }, { type: "text", text: "i" }],
        name: "x",
      },
    ],
    max_completion_tokens: 7,
    temperature: 0,
    top_p: 0.5,
    n: 2,
    seed: -1,
    stop: "END",
    logit_bias: {},
    user: "somebody",
    unheard_of: true,
  });
  assertStrictEquals(status, 200);
  assertEquals(
    answer.choices.map((
      choice: Json,
    ) => [choice.index, choice.message.content, choice.finish_reason]),
    [[0, "Hello", "stop"], [1, "Hello", "stop"]],
  );
  assertEquals(answer.usage, { prompt_tokens: 7, completion_tokens: 4, total_tokens: 11 });
  const task = f.base.engine.tasks.at(-1) as ChatTask;
  const { model: _, ...settings } = task;
  assertEquals(settings, {
    kind: "chat",
    messages: [{ role: "system", content: "Be brief." }, { role: "user", content: "Hi" }],
    maxTokens: 7,
    temperature: 0,
    topP: 0.5,
    topK: 0,
    minP: 0,
    seed: 0xffffffff,
    stop: ["END"],
    n: 2,
  });
});

Deno.test("a stream has a chunk a delta, the reasons, the usage when asked, and [DONE]", async () => {
  await using f = await appFixture();
  const response = await f.request(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ ...body, n: 2, stream: true, stream_options: { include_usage: true } }),
  });
  assert(response.headers.get("content-type")!.startsWith("text/event-stream"));
  const chunks = chunksOf(await response.text());
  assertStrictEquals(chunks.pop(), "[DONE]");
  const usage = chunks.pop();
  assertEquals([usage.choices, usage.usage.total_tokens], [[], 11]);
  for (const index of [0, 1]) {
    const mine = chunks.map((chunk) => chunk.choices[0]).filter((choice) => choice.index === index);
    assertEquals(mine[0].delta, { role: "assistant", content: "" });
    assertEquals(mine.map((choice) => choice.delta.content ?? "").join(""), "Hello");
    assertEquals(mine.map((choice) => choice.finish_reason), [null, null, null, "stop"]);
  }
  assertStrictEquals(new Set(chunks.map((chunk) => chunk.id)).size, 1);
});

Deno.test("what cannot be answered is refused, streaming or not", async () => {
  await using f = await appFixture();
  const refused: [Record<string, unknown>, number, string][] = [
    [{ model: "gpt-4" }, 404, "model"],
    [{ messages: [] }, 400, "messages"],
    [{ messages: [{ role: "tool", content: "x" }] }, 400, "messages[0].role"],
    [{ temperature: -1 }, 400, "temperature"],
    [{ n: 0 }, 400, "n"],
    [
      { messages: [{ role: "user", content: [{ type: "image_url", image_url: {} }] }] },
      400,
      "messages[0].content[0].type",
    ],
  ];
  for (const [more, status, param] of refused) {
    for (const stream of [false, true]) {
      const [found, { error }] = await f.post(path, { ...body, ...more, stream });
      assertEquals([found, error.param], [status, param]);
    }
  }
  f.base.engine.behave = () => Promise.reject(new InvalidFile("Cannot read the model: cut off."));
  for (const stream of [false, true]) {
    assertEquals((await f.post(path, { ...body, stream }))[0], 422);
  }
});

Deno.test("what would change the answer and is not done is refused by name", async () => {
  await using f = await appFixture();
  const said = [{ role: "user", content: "Hi" }];
  const refused: [Record<string, unknown>, string][] = [
    [{ logprobs: true }, "logprobs"],
    [{ logprobs: false, top_logprobs: 2 }, "top_logprobs"],
    [{ tools: [{ type: "function", function: { name: "f" } }] }, "tools"],
    [{ tool_choice: "required" }, "tool_choice"],
    [{ tool_choice: { type: "function", function: { name: "f" } } }, "tool_choice"],
    [{ functions: [{ name: "f" }] }, "functions"],
    [{ function_call: { name: "f" } }, "function_call"],
    [{ response_format: { type: "json_object" } }, "response_format.type"],
    [{ logit_bias: { "50256": -100 } }, "logit_bias"],
    [{ frequency_penalty: 0.5 }, "frequency_penalty"],
    [{ presence_penalty: -0.5 }, "presence_penalty"],
    [{ modalities: ["text", "audio"] }, "modalities"],
    [{ modalities: ["audio"] }, "modalities[0]"],
    [{ audio: { voice: "alloy", format: "wav" } }, "audio"],
    [{ web_search_options: {} }, "web_search_options"],
    [
      { messages: [...said, { role: "assistant", content: null, tool_calls: [{}] }, ...said] },
      "messages[1].tool_calls",
    ],
  ];
  for (const [more, param] of refused) {
    for (const stream of [false, true]) {
      const [status, { error }] = await f.post(path, { ...body, ...more, stream });
      assertEquals([status, error.param], [400, param], error.message);
    }
  }
  const asksNothing = {
    logprobs: false,
    top_logprobs: 0,
    tools: [],
    tool_choice: "none",
    functions: [],
    function_call: "auto",
    response_format: { type: "text" },
    logit_bias: {},
    frequency_penalty: 0,
    presence_penalty: 0,
    modalities: ["text"],
    audio: null,
    stream_options: { include_usage: null },
  };
  assertStrictEquals((await f.post(path, { ...body, ...asksNothing }))[0], 200);
  const nulls = Object.fromEntries(Object.keys(asksNothing).map((name) => [name, null]));
  assertStrictEquals((await f.post(path, { ...body, ...nulls }))[0], 200);
});

Deno.test("what is unheard of is dropped when the body is checked", () => {
  const said = { role: "user", content: [{ type: "text", text: "Hi", x: 1 }], name: "x" };
  assertEquals(chatRequest.parse({ ...body, messages: [said], unheard_of: "x", user: "y" }), {
    model: body.model,
    messages: [{ role: "user", content: [{ type: "text", text: "Hi" }] }],
  });
});

Deno.test("a failure after the first token is told inside the stream, without [DONE]", async () => {
  await using f = await appFixture();
  f.base.engine.behave = async (_task, onEvent) => {
    onEvent({ type: "delta", index: 0, text: "Hel" });
    await new Promise((resolve) => setTimeout(resolve, 5));
    throw new GpuError("The device was lost.");
  };
  const response = await f.request(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ ...body, stream: true }),
  });
  const chunks = chunksOf(await response.text());
  assertEquals(chunks.at(-1).error.code, "gpu_error");
  assertStrictEquals(chunks.at(-2).choices[0].delta.content, "Hel");
});

Deno.test("a reader that leaves stops the generation", async () => {
  const stopped = Promise.withResolvers<void>();
  await using f = await appFixture();
  f.base.engine.behave = (task, onEvent, signal) => {
    signal.addEventListener("abort", () => stopped.resolve());
    onEvent({ type: "delta", index: 0, text: "Hel" });
    return endless(task, onEvent, signal);
  };
  const response = await f.request(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ ...body, stream: true }),
  });
  await response.body!.cancel();
  await stopped.promise;
});

Deno.test("chats past the limit are sent away until one has ended", async () => {
  const gates = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  await using f = await appFixture({ limits: { max_chats: 2 } }, async (...given) => {
    await gates[f.base.engine.tasks.length - 1]?.promise;
    return usual(...given);
  });
  const send = (stream: boolean) =>
    f.request(path, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ ...body, stream }),
    });
  const running = [send(false), send(true)];
  while (f.base.engine.tasks.length < 2) await new Promise((resolve) => setTimeout(resolve, 1));
  for (const stream of [false, true]) {
    const response = await send(stream);
    assertEquals([response.status, response.headers.get("retry-after")], [429, "10"]);
    assertStrictEquals((await response.json()).error.code, "too_many_chats");
  }
  assertStrictEquals(f.base.engine.tasks.length, 2);
  // The stream holds its place to its end, the failed one not longer than it ran.
  gates[1].resolve();
  await (await running[1]).text();
  assertStrictEquals((await send(false)).status, 200);
  gates[0].resolve();
  assertStrictEquals((await running[0]).status, 200);
  f.base.engine.behave = () => Promise.reject(new GpuError("The device was lost."));
  for (let i = 0; i < 3; i++) assertStrictEquals((await send(false)).status, 500);
});
