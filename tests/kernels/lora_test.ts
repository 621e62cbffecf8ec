import { lora, loraBackwardInput, loraBackwardParameters } from "../../kernels/lora.ts";
import { loraReference } from "../../kernels/reference/lora.ts";
import { assertClose, guarded, normal, readGuarded, testGpu } from "../gpu.ts";

for (const [T, K, N, R] of [[1, 4, 8, 4], [7, 36, 20, 4], [333, 64, 48, 8], [5, 8, 12, 16]]) {
  for (const software of [true, false]) {
    Deno.test(
      `lora forward and backward, T ${T} K ${K} N ${N} R ${R}, ${
        software ? "one sum" : "split sums"
      }`,
      async () => {
        const gpu = await testGpu();
        const wasSoftware = gpu.facts.software;
        gpu.facts.software = software;
        const before = 12, between = 4, scale = 1.7;
        const module = {
          offsetA: before,
          offsetB: before + R * K + between,
          inputs: K,
          outputs: N,
          r: R,
        };
        const elements = module.offsetB + N * R;
        const phi = normal(elements, 1), x = normal(T * K, 2), dy = normal(T * N, 3);
        const y0 = normal(T * N, 4), dx0 = normal(T * K, 5), grad0 = normal(elements, 6);
        const A = phi.subarray(before, before + R * K), B = phi.subarray(module.offsetB);
        const { u, y, du, dx, dA, dB } = loraReference({ x, dy, A, B, scale }, { T, K, N, R });
        const dphi = new Float64Array(grad0);
        dA.forEach((value, i) => dphi[module.offsetA + i] += value);
        dB.forEach((value, i) => dphi[module.offsetB + i] += value);

        const tensor = (name: string, shape: number[], start: Float32Array<ArrayBuffer>) => {
          const made = guarded(gpu, name, shape);
          gpu.write(made, start);
          return made;
        };
        const tensors = {
          x: gpu.upload("x", x, [T, K]),
          dy: gpu.upload("dy", dy, [T, N]),
          phi: gpu.upload("phi", phi),
          u: guarded(gpu, "u", [T, R]),
          du: guarded(gpu, "du", [T, R]),
          y: tensor("y", [T, N], y0),
          dx: tensor("dx", [T, K], dx0),
          grad: tensor("grad", [elements], grad0),
        };
        lora(gpu, tensors, module, scale);
        loraBackwardInput(gpu, tensors, module, scale);
        loraBackwardParameters(gpu, tensors, module, scale);
        assertClose(await readGuarded(gpu, tensors.u), u);
        assertClose(await readGuarded(gpu, tensors.y), y.map((value, i) => value + y0[i]));
        assertClose(await readGuarded(gpu, tensors.du), du);
        assertClose(await readGuarded(gpu, tensors.dx), dx.map((value, i) => value + dx0[i]));
        assertClose(await readGuarded(gpu, tensors.grad), dphi);
        gpu.facts.software = wasSoftware;
      },
    );
  }
}
