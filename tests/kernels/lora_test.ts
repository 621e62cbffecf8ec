import { lora, loraBackwardInput, loraBackwardParameters } from "../../kernels/lora.ts";
import { assertClose, guarded, normal, readGuarded, testGpu } from "../gpu.ts";

/** c (m, n) = sum_k a(m, k) b(k, n) in f64, from accessors. */
function matrix(
  m: number,
  n: number,
  k: number,
  term: (i: number, j: number, l: number) => number,
) {
  const c = new Float64Array(m * n);
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < n; j++) {
      for (let l = 0; l < k; l++) c[i * n + j] += term(i, j, l);
    }
  }
  return c;
}

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
        const u = matrix(T, R, K, (t, r, k) => x[t * K + k] * A[r * K + k]);
        const y = matrix(T, N, R, (t, n, r) => scale * u[t * R + r] * B[n * R + r]);
        const du = matrix(T, R, N, (t, r, n) => scale * dy[t * N + n] * B[n * R + r]);
        const dx = matrix(T, K, R, (t, k, r) => du[t * R + r] * A[r * K + k]);
        const dA = matrix(R, K, T, (r, k, t) => du[t * R + r] * x[t * K + k]);
        const dB = matrix(N, R, T, (n, r, t) => scale * dy[t * N + n] * u[t * R + r]);
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
