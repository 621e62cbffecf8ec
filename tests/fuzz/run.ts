// Reads damaged files by the thousand: `deno run -A tests/fuzz/run.ts [mutants of each format] [first]`.
// CI reads about a hundred of each (the *_test.ts files beside this one). Prints what became of them, and ends
// with an error when one was neither read nor refused as it should be.

import { formats, fuzzFormat } from "./data_sets.ts";
import { fuzzModels, modelFormats } from "./models.ts";
import type { FuzzReport } from "./report.ts";

const [count = 3000, first = 0] = Deno.args.map(Number);
let failed = false;

function show({ failures, ...figures }: FuzzReport): void {
  console.log(JSON.stringify(figures));
  for (const failure of failures) console.error(failure);
  failed ||= failures.length > 0;
}

for (const format of formats) show(await fuzzFormat(format, count, first));
for (const format of Object.keys(modelFormats)) show(await fuzzModels(format, count, first));
if (failed) Deno.exit(1);
