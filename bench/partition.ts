// Time to partition the LoRA elements of SmolLM2-135M (r=8 on q, k, v, gate, up, down: 2.17 M) for both
// systems, the scoring passes aside: from the sums S1 and S2 to regions, counts, and the index lists
// of both phases on the GPU. Our limit on two CPU cores with lavapipe is 100 ms (KERNELS.md).
//   deno run -A bench/partition.ts

import { accumulateImportance, finishImportance, importanceSums } from "../kernels/importance.ts";
import { openGpu } from "../kernels/gpu/gpu.ts";
import { loraLayout } from "../lib/lora/layout.ts";
import { randomGenerator } from "../lib/lora/random.ts";
import type { ModelConfig } from "../lib/model/config.ts";
import { activeElements, cutPartition, releasePartition } from "../lib/par/partition.ts";

const config: ModelConfig = {
  architecture: "llama",
  vocabSize: 49152,
  hiddenSize: 576,
  intermediateSize: 1536,
  layers: 30,
  heads: 9,
  kvHeads: 3,
  headSize: 64,
  rmsNormEps: 1e-5,
  ropeTheta: 100000,
  ropeScaling: null,
  maxPositions: 8192,
  tieEmbeddings: true,
  qkvBias: false,
  qkNorm: false,
  bosToken: 1,
  eosTokens: [2],
};
const layout = loraLayout(config, {
  r: 8,
  target_modules: ["q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "down_proj"],
});
const { elements } = layout;
const gpu = await openGpu();

/** Products g * phi as training gives them: over several powers of ten, of either sign. */
function sums(name: string) {
  const random = randomGenerator(1, name);
  const draw = (scale: number, spread: number) =>
    gpu.upload(
      name,
      Float32Array.from(
        { length: elements },
        () => scale * random.normal() * Math.exp(spread * random.normal()),
      ),
    );
  const g = draw(1e-3, 1.5), phi = draw(1e-2, 0);
  const made = importanceSums(gpu, name, elements);
  accumulateImportance(gpu, { g, phi, sums: made });
  gpu.release(g, phi);
  return made;
}

const scores = { system1: sums("system1"), system2: sums("system2") };
const rounds = 8;
for (const [alpha, beta] of [[1, 1], [0.5, 0.5]]) {
  let best = Infinity;
  let counts: unknown;
  for (let round = 0; round < rounds; round++) {
    await gpu.sync();
    const begin = performance.now();
    const importance = {
      system1: gpu.tensor("importance.system1", [elements]),
      system2: gpu.tensor("importance.system2", [elements]),
    };
    for (const system of ["system1", "system2"] as const) {
      finishImportance(gpu, { sums: scores[system], importance: importance[system] }, 100);
    }
    const partition = await cutPartition(gpu, layout, importance, { theta: 0.9, alpha, beta });
    const { phase1, phase2 } = partition.report.active;
    const lists = [
      await activeElements(gpu, layout, partition.active, 1, phase1),
      await activeElements(gpu, layout, partition.active, 2, phase2),
    ];
    await gpu.sync();
    if (round > 0) best = Math.min(best, performance.now() - begin);
    counts = partition.report.counts;
    gpu.release(...lists.map(({ indices }) => indices));
    releasePartition(gpu, partition);
  }
  console.log(
    `partition of ${elements} elements, both systems, alpha ${alpha}, beta ${beta}: ` +
      `${best.toFixed(1)} ms (best of ${rounds - 1}) ${JSON.stringify(counts)}`,
  );
}
gpu.close();
