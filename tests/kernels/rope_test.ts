import { rope, ropeBackward, ropeTable } from "../../kernels/rope.ts";
import { assertClose, guarded, normal, readGuarded, testGpu } from "../gpu.ts";
import { ropeReference } from "../../kernels/reference/elementwise.ts";

for (const [T, H, D] of [[1, 1, 2], [9, 3, 12], [131, 9, 64]] as [number, number, number][]) {
  Deno.test(`rope forward and backward, (${T}, ${H}, ${D})`, async () => {
    const gpu = await testGpu();
    const frequencies = Float64Array.from(
      { length: D / 2 },
      (_, i) => Math.fround(10000 ** (-2 * i / D)),
    );
    const positions = Uint32Array.from({ length: T }, (_, t) => (t * 37) % 500);
    const table = gpu.upload("table", ropeTable(500, frequencies));
    const x = normal(T * H * D, 1);
    const y = guarded(gpu, "x", [T, H, D]);
    gpu.write(y, x);
    const tensors = { x: y, positions: gpu.upload("positions", positions), table };
    rope(gpu, tensors);
    assertClose(
      await readGuarded(gpu, y),
      ropeReference(x, [T, H, D], positions, frequencies),
      1e-7,
    );
    // A rotation's gradient is the rotation back: from dy = y it gives x.
    ropeBackward(gpu, tensors);
    assertClose(await readGuarded(gpu, y), x);
  });
}
