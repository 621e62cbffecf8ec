// The server as a whole on a real port, spoken to by an unmodified openai client.

import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { assertRejects } from "../asserts.ts";
import OpenAI, { toFile } from "openai";
import { listen } from "../../routes/listen.ts";
import { type AppFixture, appFixture } from "./fixture.ts";

async function withClient(
  run: (client: OpenAI, f: AppFixture) => Promise<void>,
  apiKey = "key",
): Promise<void> {
  await using f = await appFixture({ api_key: "key", port: 0 });
  const server = await listen(f.app.fetch, f.base.config);
  const client = new OpenAI({
    apiKey,
    baseURL: `http://127.0.0.1:${server.port}/v1`,
    maxRetries: 0,
  });
  try {
    await run(client, f);
  } finally {
    await server.shutdown();
  }
}

const messages = [{ role: "user" as const, content: "Hi" }];

Deno.test("files: create, list, retrieve, content, delete", () =>
  withClient(async (client) => {
    const text = '{"question":"1+1","answer":"2"}\n'.repeat(10_000);
    const file = await client.files.create({
      file: await toFile(new TextEncoder().encode(text), "train.jsonl"),
      purpose: "fine-tune",
    });
    assertEquals([file.bytes, file.filename, file.status], [
      text.length,
      "train.jsonl",
      "processed",
    ]);
    const ids = [];
    for await (const one of client.files.list({ limit: 1 })) ids.push(one.id);
    assertEquals(ids, [file.id]);
    assertStrictEquals((await client.files.retrieve(file.id)).bytes, text.length);
    assertStrictEquals(await (await client.files.content(file.id)).text(), text);
    assert((await client.files.delete(file.id)).deleted);
    await assertRejects(client.files.retrieve(file.id), OpenAI.NotFoundError);
  }));

Deno.test("models: list and retrieve", () =>
  withClient(async (client) => {
    const ids = [];
    for await (const model of client.models.list()) ids.push(model.id);
    assertEquals(ids, ["lorapar-tiny"]);
    assertStrictEquals((await client.models.retrieve("lorapar-tiny")).object, "model");
  }));

Deno.test("chat: whole and streamed", () =>
  withClient(async (client) => {
    const answer = await client.chat.completions.create({ model: "lorapar-tiny", messages });
    assertStrictEquals(answer.choices[0]!.message.content, "Hello");
    assert(answer._request_id?.startsWith("req-"));
    const stream = await client.chat.completions.create({
      model: "lorapar-tiny",
      messages,
      stream: true,
      stream_options: { include_usage: true },
    });
    let text = "";
    let total = 0;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? "";
      total = chunk.usage?.total_tokens ?? total;
    }
    assertEquals([text, total], ["Hello", 9]);
  }));

Deno.test("errors come typed, with their param, code and request id", async () => {
  await withClient(async (client) => {
    await assertRejects(
      client.chat.completions.create({ model: "gpt-4", messages }),
      (error: unknown) => {
        assert(error instanceof OpenAI.NotFoundError);
        assertEquals([error.param, error.code], ["model", "model_not_found"]);
        assert(error.requestID?.startsWith("req-"));
        return true;
      },
    );
    await assertRejects(
      client.chat.completions.create({ model: "lorapar-tiny", messages, n: 0 }),
      OpenAI.BadRequestError,
    );
  });
  await withClient(async (client) => {
    await assertRejects(client.models.list(), OpenAI.AuthenticationError);
  }, "wrong");
});

Deno.test("an upload that its sender breaks off leaves nothing, and the server goes on", () =>
  withClient(async (client, f) => {
    const { hostname, port } = new URL(client.baseURL);
    const connection = await Deno.connect({ hostname, port: Number(port) });
    const head = "POST /v1/files HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer key\r\n" +
      "content-type: multipart/form-data; boundary=x\r\ncontent-length: 100000\r\n\r\n" +
      '--x\r\ncontent-disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\nabc';
    await connection.write(new TextEncoder().encode(head));
    const uploads = f.base.store.resolve("uploads");
    const names = () => [...Deno.readDirSync(uploads)].map((entry) => entry.name);
    const until = async (reached: () => boolean) => {
      while (!reached()) await new Promise((resolve) => setTimeout(resolve, 2));
    };
    await until(() => names().length === 1);
    connection.close();
    await until(() => names().length === 0);
    assertEquals((await client.files.list()).data, []);
  }));
