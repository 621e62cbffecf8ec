// Every benchmark, one after the other, each in a process of its own: ratios within one run are what
// compares; the seconds depend on the machine and on what else it does.
//   ./run bench [MODEL]      MODEL: a Hugging Face folder or .gguf file; the embedded one by default

import { fileURLToPath } from "node:url";

const here = (name: string) => fileURLToPath(new URL(name, import.meta.url));
const model = Deno.args[0] ?? here("../models/tiny");
const benches: [title: string, script: string, args: string[]][] = [
  ["Matmul at the shapes of SmolLM2-135M", "matmul.ts", []],
  ["Partition of 2.17 M elements for both systems", "partition.ts", []],
  [`SFT forward and backward, 256 tokens, ${model}`, "sft_step.ts", [model, "256"]],
  [`Decoding, ${model}`, "decode.ts", [model]],
  ["GET /v1/jobs while a job trains", "server_latency.ts", []],
];

let failed = 0;
for (const [title, script, args] of benches) {
  console.log(`\n${title}`);
  const { code } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", here(script), ...args],
    stdout: "inherit",
    stderr: "inherit",
  }).output();
  if (code !== 0) {
    console.error(`${script} ended with ${code}`);
    failed++;
  }
}
Deno.exit(failed);
