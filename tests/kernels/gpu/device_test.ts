import { assertEquals } from "@std/assert";
import { hasSubgroups, openDevice } from "../../../kernels/gpu/device.ts";

Deno.test("subgroups count as there only if a kernel with them compiles", async () => {
  const adapter = (await navigator.gpu.requestAdapter())!;
  const without = await adapter.requestDevice();
  let refusals = 0;
  without.addEventListener("uncapturederror", (event) => {
    event.preventDefault();
    refusals++;
  });
  assertEquals(await hasSubgroups(without), false);
  assertEquals(refusals, 0);
  without.destroy();
  const { device, facts } = await openDevice();
  assertEquals(await hasSubgroups(device), facts.features.subgroups);
  assertEquals(facts.subgroupSize > 0, facts.features.subgroups);
  device.destroy();
});
