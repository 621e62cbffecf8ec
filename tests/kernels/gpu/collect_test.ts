// Bind groups are freed while a device works: each holds a memory mapping on lavapipe, and past
// 65,530 of them the process crashes.

import { assert } from "@std/assert";
import { testGpu } from "../../gpu.ts";

const fill = {
  label: "fill",
  code: `
@group(0) @binding(0) var<storage, read_write> x: array<u32>;
@group(0) @binding(1) var<uniform> value: vec4u;
@compute @workgroup_size(1) fn main() { x[0] = value.x; }`,
  entryPoint: "main",
};

Deno.test({
  name: "forty thousand bind groups leave few mappings behind",
  ignore: Deno.build.os !== "linux",
  async fn() {
    const gpu = await testGpu();
    const x = gpu.tensor("x", [1], "u32");
    const mappings = () => Deno.readTextFileSync("/proc/self/maps").split("\n").length;
    const before = mappings();
    let most = 0;
    for (let value = 0; value < 40_000; value++) {
      gpu.run(fill, [x], [1], [value]);
      if (value % 1000 !== 999) continue;
      await gpu.sync();
      most = Math.max(most, mappings() - before);
    }
    assert(most < 12_000, `${most} mappings were added`);
    gpu.release(x);
  },
});
