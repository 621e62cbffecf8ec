// What `deno task compile` packs. The runtime part comes from Deno's own site, which a test must not
// need: the ordinary binary stands in for it (DENORT_BIN), so the result is packed but is not the program.

import { Buffer } from "node:buffer";
import { fileURLToPath } from "node:url";
import { assert, assertStrictEquals } from "./asserts.ts";

const root = fileURLToPath(new URL("../", import.meta.url));

function* files(folder: string, ending: RegExp): Generator<string> {
  for (const { name, isDirectory } of Deno.readDirSync(folder)) {
    const path = `${folder}/${name}`;
    if (isDirectory) yield* files(path, ending);
    else if (ending.test(name)) yield path;
  }
}

Deno.test("compile packs the Worker, every kernel and the embedded models", async () => {
  const folder = await Deno.makeTempDir({ prefix: "lorapar-compile-" });
  try {
    const tasks = JSON.parse(await Deno.readTextFile(`${root}/deno.json`)).tasks;
    const args = String(tasks.compile).split(" ").slice(1);
    args[args.indexOf("--output") + 1] = `${folder}/lorapar`;
    const { code, stderr } = await new Deno.Command(Deno.execPath(), {
      args,
      cwd: root,
      env: { DENORT_BIN: Deno.execPath(), NO_COLOR: "1" },
      stdout: "null",
      stderr: "piped",
    }).output();
    assertStrictEquals(code, 0, new TextDecoder().decode(stderr));
    const packed = Buffer.from(await Deno.readFile(`${folder}/lorapar`));
    const wanted = [
      `${root}/lib/engine/worker.ts`,
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
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
