// Tokens a second of one sequence and of 32 side by side, greedy, after a prompt of 64 tokens.
//   deno run -A bench/decode.ts MODEL [NEW_TOKENS] [--json]

import { openGpu } from "../kernels/gpu/gpu.ts";
import { loadDecoder } from "../lib/model/decoder.ts";
import { generate } from "../lib/model/generate.ts";
import { openModel } from "../lib/model/open.ts";

const [path, count = "33"] = Deno.args.filter((arg) => !arg.startsWith("--"));
const gpu = await openGpu();
const source = await openModel(path);
const decoder = await loadDecoder(gpu, source);
const prompt = Uint32Array.from(
  { length: 64 },
  (_, t) => (t * 7919 + 11) % source.config.vocabSize,
);

/** Tokens a second while decoding; prefill is timed by a generation of one token and taken off. */
async function rate(rows: number): Promise<number> {
  const seconds = async (maxNewTokens: number) => {
    const begin = performance.now();
    await generate(gpu, { decoder, adapter: null }, {
      prompts: [prompt],
      completionsPerPrompt: rows,
      maxNewTokens,
      temperature: 0,
      topK: 0,
      topP: 1,
      minP: 0,
      seed: 0,
      eosTokens: [],
    });
    return (performance.now() - begin) / 1000;
  };
  await seconds(2);
  const once = Math.min(await seconds(1), await seconds(1));
  return rows * (Number(count) - 1) /
    (Math.min(await seconds(Number(count)), await seconds(Number(count))) - once);
}

const one = await rate(1), many = await rate(32);
const result = { tokens_per_s_1: one, tokens_per_s_32: many, ratio: many / one };
if (Deno.args.includes("--json")) console.log(JSON.stringify(result));
else {
  console.log(`1 sequence    ${one.toFixed(1).padStart(8)} tokens/s`);
  console.log(`32 sequences  ${many.toFixed(1).padStart(8)} tokens/s`);
  console.log(`ratio         ${(many / one).toFixed(1).padStart(8)} x   (goal 6)`);
}
Deno.exit(0);
