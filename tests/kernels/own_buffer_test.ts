import { assert } from "@std/assert";
import { add } from "../../kernels/add.ts";
import { dropout } from "../../kernels/dropout.ts";
import { linear, linearBackward } from "../../kernels/matmul.ts";
import { rmsNorm, rmsNormBackward } from "../../kernels/rms_norm.ts";
import { gatherRows, scatterRows } from "../../kernels/rows.ts";
import { swiglu } from "../../kernels/swiglu.ts";
import { destroyWeight, uploadWeight } from "../../kernels/weight.ts";
import { assertThrows } from "../asserts.ts";
import { testGpu } from "../gpu.ts";

Deno.test("an op refuses to write where it reads, and the device lives on", async () => {
  const gpu = await testGpu();
  const x = gpu.zeros("x", [4, 4]), dy = gpu.zeros("dy", [4, 4]), other = gpu.zeros("y", [4, 4]);
  const norm = gpu.zeros("weight", [4]), numbers = gpu.zeros("numbers", [4], "u32");
  const weight = uploadWeight(gpu, "weight", {
    dtype: "f32",
    shape: [4, 4],
    bytes: new Uint8Array(64),
  });
  const refused: [string, () => void][] = [
    ["rms_norm", () => rmsNorm(gpu, { x, weight: norm, y: x }, 1e-5)],
    ["rms_norm backward", () => rmsNormBackward(gpu, { x, weight: norm, dy, dx: dy }, 1e-5)],
    ["add", () => add(gpu, { a: x, b: other, y: other })],
    ["swiglu", () => swiglu(gpu, { gate: x, up: other, y: x })],
    ["dropout", () => dropout(gpu, { x, y: x }, { p: 0.5, seed: 1 })],
    ["gather", () => gatherRows(gpu, { x, numbers, y: x })],
    ["scatter", () => scatterRows(gpu, { x, numbers, y: x })],
    ["linear", () => linear(gpu, { x, weight, y: x })],
    ["linear backward", () => linearBackward(gpu, { dy, weight, dx: dy })],
  ];
  for (const [what, act] of refused) {
    assertThrows(
      act,
      /Cannot write \w+ into the buffer of \w+, which the same dispatch reads/,
      what,
    );
  }
  await gpu.sync();
  assert(!gpu.failed);
  gpu.release(x, dy, other, norm, numbers);
  await destroyWeight(gpu, weight);
});
