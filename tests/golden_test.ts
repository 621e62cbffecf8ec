// Whole models against PyTorch, Transformers and PEFT (tests/golden/README.md): logits,
// log-probabilities, losses and every LoRA gradient, NMSE 1e-7 in f32.

import type { Gpu } from "../kernels/gpu/gpu.ts";
import { pass, type Policy, releaseBatch, uploadBatch } from "../lib/model/pass.ts";
import { type GoldenCase, goldenCases, openGolden } from "./golden.ts";
import { assertClose, testGpu } from "./gpu.ts";

/** Runs the batch of a prefix with dL/dlogp the same for every scored token; (logp, …) rows come back. */
async function run(
  gpu: Gpu,
  policy: Policy,
  golden: GoldenCase,
  prefix = "",
  dlogp?: number,
): Promise<Float32Array> {
  const batch = uploadBatch(gpu, golden.decoder, golden.packed(prefix));
  const values = gpu.tensor("values", [batch.M, 4]);
  const objective = dlogp === undefined
    ? undefined
    : { dlogp: gpu.upload("dlogp", new Float32Array(batch.M).fill(dlogp)) };
  pass(gpu, policy, { batch, values }, { objective });
  const rows = await gpu.readFloats(values);
  releaseBatch(gpu, batch);
  return rows;
}

for (const name of goldenCases) {
  Deno.test(`golden ${name}: log-probabilities, loss and every LoRA gradient`, async () => {
    const gpu = await testGpu();
    const golden = await openGolden(gpu, name);
    const { adapter, decoder, json, layout } = golden;
    const rows = await run(gpu, { decoder, adapter }, golden, "", -1 / json.answer_tokens);
    const logps = rows.filter((_, i) => i % 4 === 0);
    const mask = golden.integers("loss_mask");
    assertClose(logps, golden.floats("logps").filter((_, t) => mask[t] === 1), 1e-7, "logps");
    const loss = -logps.reduce((sum, x) => sum + x, 0) / json.answer_tokens;
    assertClose([loss], [json.loss], 1e-10, "loss");

    const grad = await gpu.readFloats(adapter.grad!);
    for (const { name, offset, rows, columns } of layout.tensors) {
      assertClose(
        grad.subarray(offset, offset + rows * columns),
        golden.floats(`grad.base_model.model.${name}`),
        1e-7,
        `gradient of ${name}`,
      );
    }
  });
}
