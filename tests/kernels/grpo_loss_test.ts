import { grpoLoss } from "../../kernels/grpo_loss.ts";
import { assertClose, guarded, normal, readGuarded, testGpu } from "../gpu.ts";
import { centralDifferences } from "../reference/differences.ts";
import { grpoReference } from "../../kernels/reference/elementwise.ts";

for (const [M, beta, useOld] of [[1, 0.04, true], [301, 0.04, true], [77, 0, false]] as const) {
  Deno.test(`grpo_loss and its derivative, ${M} tokens, beta ${beta}, old ${useOld}`, async () => {
    const gpu = await testGpu();
    const options = { epsilon: 0.2, epsilonHigh: 0.28, beta };
    const logp = normal(M, 1).map((x) => -Math.abs(x));
    const old = logp.map((x, i) => x + 0.3 * normal(M, 2)[i]);
    const reference = logp.map((x, i) => x + 0.3 * normal(M, 3)[i]);
    const advantages = normal(M, 4);
    const weights = normal(M, 5).map((x, i) => i % 5 === 4 ? 0 : Math.abs(x));
    const rowsOf = (logps: Float32Array) => {
      const rows = normal(M * 4, 6);
      logps.forEach((x, i) => rows[i * 4] = x);
      return gpu.upload("values", rows, [M, 4]);
    };
    const dlogp = guarded(gpu, "dlogp", [M]);
    const terms = guarded(gpu, "terms", [M, 4]);
    grpoLoss(gpu, {
      values: rowsOf(logp),
      oldValues: rowsOf(old),
      referenceValues: rowsOf(reference),
      advantages: gpu.upload("advantages", advantages),
      weights: gpu.upload("weights", weights),
      dlogp,
      terms,
    }, { ...options, useOld });
    const token = (i: number, x = logp[i]) => ({
      logp: x,
      old: useOld ? old[i] : logp[i],
      reference: reference[i],
      advantage: advantages[i],
      weight: weights[i],
    });
    const foundTerms = await readGuarded(gpu, terms);
    assertClose(
      foundTerms.filter((_, i) => i % 4 === 0),
      Float64Array.from(logp, (_, i) => grpoReference(token(i), options)),
    );
    const derivative = Float64Array.from(
      logp,
      (x, i) => centralDifferences(([at]) => grpoReference(token(i, at), options), [x], 1e-6)[0],
    );
    assertClose(await readGuarded(gpu, dlogp), derivative, 1e-8);
    if (useOld && M > 100) {
      const clipped = foundTerms.filter((_, i) => i % 4 === 2).reduce((sum, x) => sum + x, 0);
      if (clipped === 0 || clipped === M) throw new Error(`${clipped} of ${M} tokens clipped`);
    }
  });
}
