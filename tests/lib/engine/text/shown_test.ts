// What events show of samples is bounded, whatever the samples hold.

import { assert, assertEquals } from "@std/assert";
import { showRecord, showSample } from "../../../../lib/engine/text/shown.ts";

Deno.test("shown: a small record is shown as it is", () => {
  const record = { a: "text", b: [1, null, { c: true }], d: {} };
  assertEquals(showRecord(record), record);
});

Deno.test("shown: of large texts, lists and objects the beginning", () => {
  const long = "x".repeat(1e6);
  const entries = Object.fromEntries(Array.from({ length: 1e5 }, (_, i) => [`field ${i}`, i]));
  const deep = { list: Array.from({ length: 1e5 }, () => [long]) };
  for (const item of [{ long }, entries, deep, { a: [long, long] }]) {
    const shown = showRecord({ completion: "4", ...item });
    assertEquals(shown.completion, "4");
    const size = JSON.stringify(shown).length;
    assert(size < 100_000, `${size} characters`);
  }
  const prompt = [{ role: "user" as const, content: "2+2?" }];
  const { answer, prompt: shown } = showSample({ prompt, answer: long, system: null, item: {} });
  assertEquals([answer!.length, shown], [10_001, prompt]);
});
