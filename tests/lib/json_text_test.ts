import { assert, assertEquals } from "@std/assert";
import { nestsDeeperThan, parseJson, passedBound } from "../../lib/json_text.ts";
import { assertThrows } from "../asserts.ts";

Deno.test("json_text: nesting is counted outside of strings", () => {
  assert(!nestsDeeperThan('[{"a":[]}]', 3));
  assert(nestsDeeperThan('[{"a":[]}]', 2));
  assert(!nestsDeeperThan('["[[[[", {"\\"[[[": "\\\\"}]', 2));
  assert(!nestsDeeperThan("[],[],[],{},{}", 1));
  // Closing what was not opened buys no depth that JSON.parse would reach.
  assertThrows(() => parseJson("]]]]" + "[".repeat(4)), SyntaxError);
  for (const text of ["", '"', '"\\', "[[", '["a']) nestsDeeperThan(text, 2);
});

Deno.test("json_text: deep texts are refused before they are parsed", () => {
  assertEquals(parseJson('{"a":[1,null]}'), { a: [1, null] });
  assertThrows(() => parseJson("[".repeat(65) + "]".repeat(65)), /64 deep/);
  assertEquals(JSON.stringify(parseJson("[".repeat(64) + "]".repeat(64))).length, 128);
  const begin = performance.now();
  assertThrows(() => parseJson("[".repeat(4_000_000)), SyntaxError);
  assertThrows(() => parseJson(' {"a":'.repeat(1_000_000)), SyntaxError);
  const ms = performance.now() - begin;
  // JSON.parse alone takes seconds.
  assert(ms < 500, `${ms} ms`);
});

Deno.test("values are counted by brackets and commas outside of strings", () => {
  const passed = (text: string, values: number) => passedBound(text, { depth: 9, values });
  assertEquals(passed('[1,{"a,b":",,,"},"\\",,"]', 4), null);
  assertEquals(passed('[1,{"a,b":",,,"},"\\",,"]', 3), "values");
  assertEquals(passed("[]", 0), "values");
  assertEquals(passed("[".repeat(10), 100), "depth");
});
