import { assertEquals } from "@std/assert";
import { sampleCheck } from "../../../kernels/check/sampling.ts";
import { Trial } from "../../../kernels/check/trial.ts";
import { testGpu } from "../../gpu.ts";

/** What the sampler's check expects when its logits are off by such a share, this way and that. */
async function expected(share: number): Promise<number[][]> {
  const gpu = await testGpu();
  const trial = new Trial(gpu);
  const { normal } = trial;
  trial.normal = (count, scale) =>
    normal.call(trial, count, scale).map((x, i) => x * (1 + share * Math.sin(i * i)));
  const wanted: number[][] = [];
  trial.expectExactly = (_, values) => wanted.push(Array.from(values()));
  gpu.plan(() => trial.record(() => sampleCheck.record(trial, sampleCheck.variants(gpu)[0])));
  await trial.release();
  return wanted;
}

Deno.test("no draw of the sampler's check hangs on rounding", async () => {
  const exact = await expected(0);
  // A thousand roundings of f32, the worst that WGSL lets exp and log do.
  for (const share of [1e-4, -1e-4]) assertEquals(await expected(share), exact);
});
