// A choice's text over many calls is that of one call: whatever the calls' sizes and the stop sequences.

import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { continueChoice } from "../../../../lib/engine/text/choice.ts";
import { newChoice } from "../../../../lib/engine/text/choice_state.ts";
import { ChatTokenizer } from "../../../../lib/model/tokenizer.ts";
import { template, tinyTokenizerJson } from "../../model/tiny_model.ts";

const tokenizer = new ChatTokenizer(
  { tokenizer: tinyTokenizerJson(), chatTemplate: template, specialTokens: {} },
  { vocabSize: 264, eosTokens: [260] },
  "test",
);

/** The text of tokens that come in pieces of these sizes, and how many of them were looked at. */
function decode(tokens: number[], sizes: number[], stops: string[]) {
  let state = structuredClone(newChoice);
  let text = "", used = 0, at = 0;
  const take = (some: number[], isLast: boolean) => {
    const found = continueChoice(
      tokenizer,
      { state, tokens: Uint32Array.from(some), isLast },
      stops,
    );
    state = structuredClone(found.state);
    text += found.text;
    used += found.used;
  };
  for (const size of sizes) {
    take(tokens.slice(at, at + size), false);
    at += size;
  }
  take(tokens.slice(at), true);
  return { text, used, stopped: state.stopped };
}

Deno.test("choice: pieces of any size give the text up to the first stop sequence", () => {
  const letters = fc.array(fc.constantFrom(...tokenizer.encode("abé😀")), { maxLength: 30 });
  const sizes = fc.array(fc.nat(5), { maxLength: 10 });
  const stops = fc.array(fc.constantFrom("a", "ab", "ba", "bab", "aab", "é", "😀b"), {
    maxLength: 3,
  });
  fc.assert(fc.property(letters, sizes, stops, (tokens, sizes, stops) => {
    const whole = tokenizer.decode(tokens, { skipSpecial: true });
    const found = decode(tokens, sizes, stops);
    const ends = stops.filter((stop) => whole.includes(stop))
      .map((stop) => whole.indexOf(stop) + stop.length);
    if (ends.length === 0) {
      assertEquals(found, { text: whole, used: tokens.length, stopped: false });
      return;
    }
    // The sequence that is complete first stops; what it begins with is not shown.
    const end = Math.min(...ends);
    const complete = stops.filter((stop) => whole.slice(0, end).endsWith(stop));
    const longest = Math.max(...complete.map(({ length }) => length));
    assertEquals([found.stopped, found.text], [true, whole.slice(0, end - longest)]);
    assertEquals(found, decode(tokens, [], stops));
  }));
});

Deno.test("choice: a beginning of a stop sequence is held back until it is none", () => {
  const ids = (text: string) => Uint32Array.from(tokenizer.encode(text));
  const first = continueChoice(tokenizer, { state: newChoice, tokens: ids("xa"), isLast: false }, [
    "ab",
  ]);
  assertEquals([first.text, first.state.held], ["x", "a"]);
  const go = (text: string, isLast = false) =>
    continueChoice(tokenizer, { state: first.state, tokens: ids(text), isLast }, ["ab"]);
  assertEquals([go("c").text, go("").text, go("", true).text], ["ac", "", "a"]);
  const stopped = go("bcd");
  assertEquals([stopped.text, stopped.used, stopped.state.stopped], ["", 1, true]);
  const after = continueChoice(
    tokenizer,
    { state: stopped.state, tokens: ids("x"), isLast: true },
    [],
  );
  assertEquals([after.text, after.used], ["", 0]);
});
