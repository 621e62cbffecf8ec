// What `deno task compile` packs. The runtime part comes from Deno's own site, which a test must not
// need: the ordinary binary stands in for it (DENORT_BIN), so the result is packed but is not the program.

import { assert, assertStrictEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import { fileURLToPath } from "node:url";
import { compileArguments, downloadAdvice } from "../tools/compile.ts";

const root = fileURLToPath(new URL("../", import.meta.url));

function* files(folder: string, ending: RegExp): Generator<string> {
  for (const { name, isDirectory } of Deno.readDirSync(folder)) {
    const path = `${folder}/${name}`;
    if (isDirectory) yield* files(path, ending);
    else if (ending.test(name)) yield path;
  }
}

Deno.test("compile without its download says what is missing and how to name it", () => {
  const errors = "error: Writing deno compile executable\n  1: error sending request for url " +
    "(https://dl.deno.land/release/v2.9.6/denort-x86_64-unknown-linux-gnu.zip): client error";
  const advice = downloadAdvice(errors);
  assert(/Cannot fetch denort-x86_64-unknown-linux-gnu\.zip/.test(`${advice}`), `${advice}`);
  assert(/DENORT_BIN=/.test(`${advice}`));
  assertStrictEquals(downloadAdvice("error: Module not found"), null);
});

Deno.test("compile packs the Workers, every kernel and the embedded models, and no test's package", async () => {
  const folder = await Deno.makeTempDir({ prefix: "lorapar-compile-" });
  try {
    const { code, stderr } = await new Deno.Command(Deno.execPath(), {
      args: compileArguments(["--output", `${folder}/lorapar`]),
      cwd: root,
      env: { DENORT_BIN: Deno.execPath(), NO_COLOR: "1" },
      stdout: "null",
      stderr: "piped",
    }).output();
    assertStrictEquals(code, 0, new TextDecoder().decode(stderr));
    const packed = Buffer.from(await Deno.readFile(`${folder}/lorapar`));
    const wanted = [
      `${root}/lib/engine/worker.ts`,
      `${root}/lib/engine/text/worker.ts`,
      ...files(`${root}/kernels`, /\.wgsl$/),
      ...files(`${root}/models`, /\.(json|safetensors)$/),
      ...files(`${root}/routes/docs`, /\.(html|js|gz)$/),
    ];
    assert(wanted.length > 40);
    for (const path of wanted) {
      // The whole text of a kernel; of longer files a part from their middle.
      const bytes = Buffer.from(await Deno.readFile(path));
      const part = path.endsWith(".wgsl")
        ? bytes
        : bytes.subarray(bytes.length >> 1, (bytes.length >> 1) + 200);
      assert(packed.includes(part), `${path.slice(root.length)} is not packed`);
    }
    // The errors list what is packed, package by package.
    const listed = new TextDecoder().decode(stderr);
    assert(listed.includes("hono/"), listed);
    for (const name of ["openai/", "fast-check/"]) assert(!listed.includes(name), listed);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
