// What vector_width_test.ts runs in a process of its own, because lavapipe reads its vector width once.
// Argument: the record of kernels, or nothing to only load from a texture.
//   LP_NATIVE_VECTOR_WIDTH=512 deno run -A tests/at_vector_width.ts [RECORD]
import { guardKernels } from "../kernels/check/self_check.ts";
import { openGpu } from "../kernels/gpu/gpu.ts";
import { pass, uploadBatch } from "../lib/model/pass.ts";
import { openGolden } from "./golden.ts";
import { nmse } from "./gpu.ts";

const gpu = await openGpu();
const [record] = Deno.args;
if (record === undefined) {
  const texture = gpu.texture("texture", 1, 1), y = gpu.tensor("y", [4], "u32");
  gpu.run(
    {
      label: "load",
      code: `@group(0) @binding(0) var texture: texture_storage_2d<rgba32uint, read>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<u32>>;
@compute @workgroup_size(1) fn main() { y[0] = textureLoad(texture, vec2<u32>(0u)); }`,
      entryPoint: "main",
    },
    [texture, y],
    [1],
  );
  await gpu.sync();
} else {
  await guardKernels(gpu, record);
  const { decoder, adapter, packed, floats, integers } = await openGolden(gpu, "llama_gqa_tied");
  const batch = uploadBatch(gpu, decoder, packed(""));
  const values = gpu.tensor("values", [batch.M, 4]);
  pass(gpu, { decoder, adapter }, { batch, values });
  const mask = integers("loss_mask");
  console.log(JSON.stringify({
    adapter: gpu.facts.description,
    error: nmse(
      (await gpu.readFloats(values)).filter((_, i) => i % 4 === 0),
      floats("logps").filter((_, t) => mask[t] === 1),
    ),
    fromTexture: decoder.head.texture !== null,
    verdicts: Object.fromEntries(gpu.verdicts),
  }));
}
gpu.close();
