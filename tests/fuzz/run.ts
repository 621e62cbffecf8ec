// Reads damaged files by the thousand: `deno run -A tests/fuzz/run.ts [mutants of each format] [first]`.
// CI reads a few hundred of each (the *_test.ts files beside this one). Prints what became of them, and ends
// with an error when one was neither read nor refused as it should be.

import { formats, fuzzFormat } from "./data_sets.ts";

const [count = 3000, first = 0] = Deno.args.map(Number);
let failed = false;
for (const format of formats) {
  const { failures, ...figures } = await fuzzFormat(format, count, first);
  console.log(JSON.stringify(figures));
  for (const failure of failures) console.error(failure);
  failed ||= failures.length > 0;
}
if (failed) Deno.exit(1);
