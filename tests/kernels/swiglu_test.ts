import { swiglu, swigluBackward } from "../../kernels/swiglu.ts";
import { assertClose, guarded, normal, readGuarded, testGpu } from "../gpu.ts";
import { centralDifferences, dot } from "../reference/differences.ts";
import { swigluBackwardReference, swigluReference } from "../../kernels/reference/elementwise.ts";

Deno.test("swiglu reference: the analytic backward is the central difference", () => {
  const gate = normal(12, 1, 3), up = normal(12, 2), dy = normal(12, 3);
  const { dgate, dup } = swigluBackwardReference(gate, up, dy);
  assertClose(centralDifferences((x) => dot(swigluReference(x, up), dy), gate), dgate, 1e-15);
  assertClose(centralDifferences((x) => dot(swigluReference(gate, x), dy), up), dup, 1e-15);
});

for (const [T, F] of [[1, 4], [7, 84], [701, 64]]) {
  Deno.test(`swiglu forward and backward, (${T}, ${F})`, async () => {
    const gpu = await testGpu();
    const limit = gpu.facts.limits.maxWorkgroupsPerDimension;
    // Folds the grid into two dimensions, as past 65,535 workgroups.
    gpu.facts.limits.maxWorkgroupsPerDimension = 20;
    const count = T * F;
    const gate = normal(count, 1, 4), up = normal(count, 2), dy = normal(count, 3);
    gate.set([200, -200, 90, -90]);
    const y = guarded(gpu, "y", [T, F]);
    const dgate = guarded(gpu, "dgate", [T, F]);
    const dup = guarded(gpu, "dup", [T, F]);
    gpu.write(dgate, gate);
    gpu.write(dup, up);
    swiglu(gpu, { gate: gpu.upload("gate", gate, [T, F]), up: gpu.upload("up", up, [T, F]), y });
    swigluBackward(gpu, { gate: dgate, up: dup, dy: gpu.upload("dy", dy, [T, F]) });
    const wanted = swigluBackwardReference(gate, up, dy);
    assertClose(await readGuarded(gpu, y), swigluReference(gate, up));
    assertClose(await readGuarded(gpu, dgate), wanted.dgate);
    assertClose(await readGuarded(gpu, dup), wanted.dup);
    gpu.facts.limits.maxWorkgroupsPerDimension = limit;
  });
}
