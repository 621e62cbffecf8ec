import { crossEntropy, crossEntropyBackward } from "../../kernels/cross_entropy.ts";
import { assertClose, guarded, normal, readGuarded, testGpu } from "../gpu.ts";
import { centralDifferences } from "../reference/differences.ts";
import { crossEntropyReference } from "../../kernels/reference/elementwise.ts";

for (const [M, V, padded, temperature] of [[1, 3, 4, 1], [5, 97, 100, 0.7], [3, 1024, 1024, 1]]) {
  Deno.test(`cross_entropy forward and backward, (${M}, ${V}) at ${temperature}`, async () => {
    const gpu = await testGpu();
    const logits = normal(M * padded, 1, 3);
    // What pads a row must not count, however large.
    for (let row = 0; row < M; row++) logits.fill(1e4, row * padded + V, (row + 1) * padded);
    const targets = Uint32Array.from({ length: M }, (_, row) => (row * 31) % V);
    const dlogp = normal(M, 2);
    const values = guarded(gpu, "values", [M, 4]);
    const dlogits = guarded(gpu, "logits", [M, padded]);
    gpu.write(dlogits, logits);
    const tensors = { logits: dlogits, targets: gpu.upload("targets", targets), values };
    crossEntropy(gpu, tensors, { vocabulary: V, temperature });
    crossEntropyBackward(
      gpu,
      { ...tensors, dlogp: gpu.upload("dlogp", dlogp) },
      { vocabulary: V, temperature },
    );
    const found = await readGuarded(gpu, values);
    const foundGradient = await readGuarded(gpu, dlogits);
    for (let row = 0; row < M; row++) {
      const rowLogits = logits.slice(row * padded, row * padded + V);
      const target = targets[row];
      const wanted = crossEntropyReference(rowLogits, target, temperature);
      const best = rowLogits.indexOf(Math.max(...rowLogits)) === target ? 1 : 0;
      assertClose(
        found.slice(row * 4, row * 4 + 4),
        [wanted.logp, wanted.logSum, wanted.entropy, best],
        1e-10,
      );
      const gradient = centralDifferences(
        (x) => dlogp[row] * crossEntropyReference(x, target, temperature).logp,
        rowLogits,
      );
      const padding = new Array(padded - V).fill(0);
      assertClose(
        foundGradient.slice(row * padded, (row + 1) * padded),
        [...gradient, ...padding],
        1e-9,
      );
    }
  });
}

Deno.test("cross_entropy: NaN among the logits shows in logp", async () => {
  const gpu = await testGpu();
  const logits = normal(8, 1);
  logits[2] = NaN;
  const values = gpu.tensor("values", [1, 4]);
  crossEntropy(gpu, {
    logits: gpu.upload("logits", logits, [1, 8]),
    targets: gpu.upload("targets", Uint32Array.of(0)),
    values,
  });
  const [logp] = await gpu.readFloats(values);
  // NaN, or on SwiftShader, whose exp(NaN) is infinite, -Infinity.
  if (Number.isFinite(logp)) throw new Error(`logp is ${logp}, wanted NaN`);
});
