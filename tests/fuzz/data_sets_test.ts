import { assert, assertEquals } from "@std/assert";
import { formats, fuzzFormat } from "./data_sets.ts";

for (const format of formats) {
  Deno.test(`fuzz: damaged ${format} is read or refused, in time and memory`, async () => {
    const { read, refused, failures } = await fuzzFormat(format, 300);
    assertEquals(failures, []);
    // Were all refused, nothing behind the first check would have been tried.
    assert(read > 0 && refused > 0, `${read} read, ${refused} refused`);
  });
}
