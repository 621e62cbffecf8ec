// The stream of a chat's texts with a text worker that answers when it is told to.

import { assertEquals } from "@std/assert";
import { ChatStream } from "../../../lib/engine/tasks/chat_stream.ts";
import type { NewText, TextCalls, Texts } from "../../../lib/engine/text/messages.ts";
import { InvalidRequest } from "../../../lib/errors.ts";
import { assertRejects } from "../../asserts.ts";

type Args = TextCalls["decode_chat"]["args"];

/** Tokens are letters by their code; "." stops. */
function answer({ choices }: Args): NewText[] {
  return choices.map(({ state, tokens, isLast }) => {
    const text = String.fromCharCode(...tokens);
    const end = text.indexOf(".");
    const stopped = end >= 0;
    const shown = stopped ? text.slice(0, end) : text + (isLast ? "!" : "");
    return { state: { ...state, stopped }, text: shown, used: stopped ? end + 1 : text.length };
  });
}

function streamOf(n: number) {
  const calls: { args: Args; settle: PromiseWithResolvers<NewText[]> }[] = [];
  const texts = {
    call(_kind: string, args: Args) {
      const settle = Promise.withResolvers<NewText[]>();
      calls.push({ args, settle });
      return settle.promise;
    },
  } as unknown as Texts;
  const told: [number, string][] = [];
  const model = { id: "m", path: "m" };
  const stream = new ChatStream({
    texts,
    model,
    n,
    stop: ["."],
    onText: (index, text) => told.push([index, text]),
  });
  const settle = async () => {
    const { args, settle } = calls.shift()!;
    settle.resolve(answer(args));
    await new Promise((resolve) => setTimeout(resolve));
  };
  return { stream, calls, told, settle };
}

const codes = (text: string) => [...text].map((letter) => letter.charCodeAt(0));

Deno.test("chat stream: tokens collect while a call is at work", async () => {
  const { stream, calls, told, settle } = streamOf(2);
  stream.push(0, codes("a"));
  stream.push(0, codes("b"));
  stream.push(1, codes("x"));
  stream.push(0, codes("c"));
  assertEquals(calls.length, 1);
  await settle();
  assertEquals(calls[0].args.choices.map(({ tokens }) => tokens.length), [2, 1]);
  await settle();
  assertEquals(told, [[0, "a"], [0, "bc"], [1, "x"]]);
  const ended = stream.end();
  await new Promise((resolve) => setTimeout(resolve));
  await settle();
  assertEquals(await ended, [
    { text: "abc!", stopped: false, tokens: 3 },
    { text: "x!", stopped: false, tokens: 1 },
  ]);
});

Deno.test("chat stream: a choice that stopped takes no more, and counts no more", async () => {
  const { stream, told, settle } = streamOf(1);
  stream.push(0, codes("ab.c"));
  stream.push(0, codes("d"));
  await settle();
  assertEquals(stream.push(0, codes("e")), false);
  assertEquals(told, [[0, "ab"]]);
  assertEquals(await stream.end(), [{ text: "ab", stopped: true, tokens: 3 }]);
});

Deno.test("chat stream: a failed call ends the generation and is what the chat fails with", async () => {
  const { stream, calls } = streamOf(2);
  stream.push(0, codes("a"));
  calls[0].settle.reject(new InvalidRequest("Cannot decode"));
  await new Promise((resolve) => setTimeout(resolve));
  assertEquals(stream.push(1, codes("b")), false);
  await assertRejects(stream.end(), /Cannot decode/);
});
