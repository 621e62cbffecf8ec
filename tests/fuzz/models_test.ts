import { assert, assertEquals } from "@std/assert";
import { fuzzModels, modelFormats } from "./models.ts";
import { mutateJson } from "./mutate_json.ts";

for (const format of Object.keys(modelFormats)) {
  Deno.test(`fuzz: a damaged ${format} is read or refused, in time and memory`, async () => {
    const { read, refused, failures } = await fuzzModels(format, 100);
    assertEquals(failures, []);
    // Were all refused, nothing behind the first check would have been tried.
    assert(read > 0 && refused > 0, `${read} read, ${refused} refused`);
  });
}

Deno.test("mutate_json: a seed stands for its value, and the original is left alone", () => {
  const original = { a: [1, "two", { b: null }], c: { d: true } };
  const before = structuredClone(original);
  const mutants = Array.from(
    { length: 500 },
    (_, seed) => JSON.stringify(mutateJson(original, seed)),
  );
  for (let seed = 0; seed < 500; seed++) {
    assertEquals(JSON.stringify(mutateJson(original, seed)), mutants[seed]);
  }
  assertEquals(original, before);
  assert(new Set(mutants).size > 300, `${new Set(mutants).size} of 500`);
});
