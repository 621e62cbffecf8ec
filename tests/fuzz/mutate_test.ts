import { assert, assertEquals } from "@std/assert";
import { mutate } from "./mutate.ts";

const original = new TextEncoder().encode('{"size": 12, "names": ["a", "b"]}');

Deno.test("mutate: a seed stands for its bytes, and the original is left alone", () => {
  const before = original.slice();
  for (let seed = 0; seed < 100; seed++) {
    assertEquals(mutate(original, seed), mutate(original, seed));
  }
  assertEquals(original, before);
});

Deno.test("mutate: mutants differ from the original and from each other, and stay small", () => {
  const mutants = Array.from({ length: 1000 }, (_, seed) => mutate(original, seed));
  const different = new Set(mutants.map((bytes) => bytes.join()));
  assert(different.size > 800, `${different.size} of 1000`);
  assert(mutants.filter((bytes) => bytes.join() === original.join()).length < 50);
  assert(mutants.every((bytes) => bytes.byteLength < 2 ** 18));
  assert(mutants.some((bytes) => bytes.byteLength < original.byteLength / 2));
});

Deno.test("mutate: an empty file can be damaged too", () => {
  for (let seed = 0; seed < 200; seed++) mutate(new Uint8Array(0), seed);
});

Deno.test("mutate: pieces come from the other files", () => {
  const other = new TextEncoder().encode("ÿþýüûúùø");
  const isOthers = (bytes: Uint8Array) => new TextDecoder().decode(bytes).includes("ý");
  const mutants = Array.from({ length: 1000 }, (_, seed) => mutate(original, seed, [other]));
  assert(mutants.some(isOthers));
});
