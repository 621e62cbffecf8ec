// Mesa keeps the functions by which lavapipe's shaders read textures on disk under a key that lacks the
// vector width (seen with 25.0.7). A process of another width takes them for its own: products by
// weights in textures are wrong, or the process dies of a segmentation fault. Which of the two, and
// whether at all, depends on driver and processor; right results do not.

import { assert, assertEquals } from "@std/assert";
import { testGpu } from "./gpu.ts";

const script = new URL("./at_vector_width.ts", import.meta.url).pathname;
const { description } = (await testGpu()).facts;

Deno.test("a lavapipe of 512 bits computes rightly, over what one of 256 left in its cache", {
  ignore: !/llvmpipe/.test(description),
}, async () => {
  const folder = await Deno.makeTempDir();
  const record = `${folder}/record.json`;
  const run = (width: number, ...args: string[]) =>
    new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", script, ...args],
      env: { LP_NATIVE_VECTOR_WIDTH: `${width}`, MESA_SHADER_CACHE_DIR: `${folder}/cache` },
    }).output();
  assertEquals((await run(256)).code, 0);
  let found = await run(512, record);
  // It may die twice. Whoever starts it again gets right results.
  for (let again = 0; again < 2 && found.code !== 0; again++) found = await run(512, record);
  const { adapter, error, fromTexture, verdicts } = JSON.parse(
    new TextDecoder().decode(found.stdout),
  );
  assert(/512 bits/.test(adapter), adapter);
  assert(error < 1e-7, `log-probabilities are off: NMSE ${error}`);
  assertEquals(fromTexture, verdicts["weight loads: texture"].right);
  await Deno.remove(folder, { recursive: true });
});
