import { assertEquals } from "@std/assert";
import type { Gpu } from "../../../kernels/gpu/gpu.ts";
import { pass, releaseBatch, uploadBatch } from "../../../lib/model/pass.ts";

import { openGolden } from "../../golden.ts";
import { testGpu } from "../../gpu.ts";

/** How often `work` dispatches each kernel, by label. */
function dispatchesOf(gpu: Gpu, work: () => void): Map<string, number> {
  const counts = new Map<string, number>();
  const { run } = gpu;
  gpu.run = (kernel, ...rest) => {
    counts.set(kernel.label, (counts.get(kernel.label) ?? 0) + 1);
    run.call(gpu, kernel, ...rest);
  };
  try {
    work();
  } finally {
    gpu.run = run;
  }
  return counts;
}

Deno.test("activations computed again give the bits of kept ones, and no scores are computed needlessly", async () => {
  const gpu = await testGpu();
  const { adapter, decoder, packed } = await openGolden(gpu, "llama_gqa_tied");
  const { layers } = decoder.config;
  const results: ArrayBuffer[][] = [];
  // Forward, the backward's own product, and once more where the workspace has served another block.
  const wanted = { kept: 3 * layers - 1, again: 3 * layers };
  for (const [name, keepBytes] of [["kept", undefined], ["again", 0]] as const) {
    gpu.clear(adapter.grad!);
    const batch = uploadBatch(gpu, decoder, packed(""));
    const values = gpu.tensor("values", [batch.M, 4]);
    const dlogp = gpu.upload("dlogp", new Float32Array(batch.M).fill(-1));
    const counts = dispatchesOf(
      gpu,
      () => pass(gpu, { decoder, adapter }, { batch, values }, { objective: { dlogp }, keepBytes }),
    );
    assertEquals(counts.get("attention.scores"), wanted[name], name);
    results.push(await gpu.readWords([values, adapter.grad!]));
    gpu.release(values, dlogp);
    releaseBatch(gpu, batch);
  }
  assertEquals(results[1], results[0]);
});
