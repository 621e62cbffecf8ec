// One SFT forward-backward of a model, by kind of kernel, and what memory it takes.
//   deno run -A bench/sft_step.ts MODEL [TOKENS]

import { openGpu } from "../kernels/gpu/gpu.ts";
import { uploadAdapter } from "../lib/lora/adapter.ts";
import { initAdapter } from "../lib/lora/init.ts";
import { loraLayout, loraScale } from "../lib/lora/layout.ts";
import { loadDecoder } from "../lib/model/decoder.ts";
import { openModel } from "../lib/model/open.ts";
import { pass, uploadBatch } from "../lib/model/pass.ts";
import { pack } from "../lib/data/pack.ts";
import { loraSettings } from "../lib/par/settings.ts";

const [path, length = "256"] = Deno.args;
const gpu = await openGpu();
const source = await openModel(path);
let begin = performance.now();
const decoder = await loadDecoder(gpu, source);
console.log(`load ${((performance.now() - begin) / 1000).toFixed(2)} s`);
const settings = loraSettings.parse({});
const layout = loraLayout(source.config, settings);
const adapter = uploadAdapter(gpu, layout, await initAdapter(layout, settings, 0), {
  scale: loraScale(settings),
  trainable: true,
});
const T = Number(length);
const tokens = Uint32Array.from({ length: T }, (_, t) => (t * 7919) % source.config.vocabSize);
const batch = uploadBatch(gpu, decoder, pack([{ tokens, promptLength: 1 }]));
const values = gpu.tensor("values", [batch.M, 4]);
const dlogp = gpu.upload("dlogp", new Float32Array(batch.M).fill(-1 / batch.M));
for (let round = 0; round < 4; round++) {
  begin = performance.now();
  const before = gpu.dispatches;
  gpu.clear(adapter.grad!);
  pass(gpu, { decoder, adapter }, { batch, values }, { objective: { dlogp } });
  const recorded = performance.now() - begin;
  const rows = await gpu.readFloats(values);
  const seconds = (performance.now() - begin) / 1000;
  const loss = -rows.filter((_, i) => i % 4 === 0).reduce((sum, x) => sum + x, 0) / batch.M;
  const rss = Deno.memoryUsage().rss / 2 ** 20;
  console.log(
    `step ${seconds.toFixed(2)} s (recording ${recorded.toFixed(0)} ms, ` +
      `${gpu.dispatches - before} dispatches), loss ${loss.toFixed(4)}, RSS ${
        rss.toFixed(0)
      } MiB, ` +
      `GPU ${JSON.stringify(gpu.pool.memory)}`,
  );
}
Deno.exit(0);
