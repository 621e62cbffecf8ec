import { linear, linearBackward } from "../../kernels/matmul.ts";
import { destroyWeight, uploadWeight, type WeightType } from "../../kernels/weight.ts";
import { assertThrows } from "../asserts.ts";
import { assertClose, guarded, normal, readGuarded, testGpu } from "../gpu.ts";
import { matmulReference } from "../reference/matmul.ts";

/** f32 values rounded to a type, and their bytes in it. */
function rounded(values: Float32Array<ArrayBuffer>, dtype: WeightType) {
  if (dtype === "f32") return { values, bytes: new Uint8Array(values.buffer) };
  if (dtype === "f16") {
    const halves = new Float16Array(values);
    return { values: Float32Array.from(halves), bytes: new Uint8Array(halves.buffer) };
  }
  const words = new Uint32Array(values.buffer);
  const halves = Uint16Array.from(words, (word) => word >>> 16);
  return {
    values: new Float32Array(words.map((word) => word & 0xffff0000).buffer),
    bytes: new Uint8Array(halves.buffer),
  };
}

for (const dtype of ["f32", "f16", "bf16"] as const) {
  for (const [M, N, K] of [[1, 4, 36], [3, 36, 4], [17, 100, 192], [65, 192, 100]]) {
    Deno.test(`matmul forward and backward, ${dtype}, M${M} N${N} K${K}`, async () => {
      const gpu = await testGpu();
      const x = normal(M * K, 1), dy = normal(M * N, 2), bias = normal(N, 3);
      const stored = rounded(normal(N * K, 4), dtype);
      const wanted = matmulReference({ x, dy, weight: stored.values, bias, M, N, K });
      const weight = uploadWeight(gpu, "weight", { dtype, shape: [N, K], bytes: stored.bytes });
      const given = {
        x: gpu.upload("x", x, [M, K]),
        dy: gpu.upload("dy", dy, [M, N]),
        bias: gpu.upload("bias", bias, [N]),
      };
      const y = guarded(gpu, "y", [M, N]);
      const dx = guarded(gpu, "dx", [M, K]);
      linear(gpu, { x: given.x, weight, bias: given.bias, y });
      linearBackward(gpu, { dy: given.dy, weight, dx });
      assertClose(await readGuarded(gpu, y), wanted.y);
      assertClose(await readGuarded(gpu, dx), wanted.dx);
      linear(gpu, { x: given.x, weight, bias: given.bias, y }, { accumulate: true });
      linearBackward(gpu, { dy: given.dy, weight, dx }, { accumulate: true });
      assertClose(await readGuarded(gpu, y), wanted.y.map((value) => 2 * value));
      assertClose(await readGuarded(gpu, dx), wanted.dx.map((value) => 2 * value));
      await destroyWeight(gpu, weight);
    });
  }
}

Deno.test("a weight whose sizes are not multiples of 4 is refused", async () => {
  const gpu = await testGpu();
  assertThrows(
    () => uploadWeight(gpu, "w", { dtype: "bf16", shape: [6, 8], bytes: new Uint8Array(96) }),
    /multiples of 4/,
  );
});
