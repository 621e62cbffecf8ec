import { rmsNorm, rmsNormBackward } from "../../kernels/rms_norm.ts";
import { assertClose, guarded, normal, readGuarded, testGpu } from "../gpu.ts";
import { rmsNormReference } from "../../kernels/reference/rms_norm.ts";

const eps = 1e-5;

for (const [T, C] of [[1, 4], [7, 36], [130, 576]]) {
  Deno.test(`rms_norm forward and backward, (${T}, ${C})`, async () => {
    const gpu = await testGpu();
    const x = normal(T * C, 1), weight = normal(C, 2), dy = normal(T * C, 3);
    const wanted = rmsNormReference(x, weight, dy, eps);
    const tensors = {
      x: gpu.upload("x", x, [T, C]),
      weight: gpu.upload("weight", weight, [C]),
      dy: gpu.upload("dy", dy, [T, C]),
    };
    const y = guarded(gpu, "y", [T, C]);
    const dx = guarded(gpu, "dx", [T, C]);
    rmsNorm(gpu, { ...tensors, y }, eps);
    rmsNormBackward(gpu, { ...tensors, dx }, eps);
    assertClose(await readGuarded(gpu, y), wanted.y);
    assertClose(await readGuarded(gpu, dx), wanted.dx);
    rmsNormBackward(gpu, { ...tensors, dx }, eps, true);
    assertClose(await readGuarded(gpu, dx), wanted.dx.map((value) => 2 * value));
  });
}
