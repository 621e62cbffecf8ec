import { assertEquals } from "@std/assert";
import { openGpu } from "../../../kernels/gpu/gpu.ts";
import { loadRecord, saveRecord } from "../../../kernels/gpu/record.ts";

const path = await Deno.makeTempFile({ suffix: ".json" });
const fingerprint = "ab12", milliseconds = 5;
const right = { fingerprint, right: true, error: 1e-14, milliseconds } as const;
const wrong = { fingerprint, right: false, reason: "it is off", milliseconds } as const;

/** What a newly opened device knows after loading the file. */
async function loaded() {
  const gpu = await openGpu();
  await loadRecord(gpu, path);
  gpu.close();
  return { choices: [...gpu.choices], verdicts: [...gpu.verdicts] };
}

Deno.test("a record comes back on the same adapter, next to those of others", async () => {
  const gpu = await openGpu();
  await Deno.writeTextFile(path, JSON.stringify({ other: { choices: { a: "b" }, verdicts: {} } }));
  await loadRecord(gpu, path);
  gpu.choices.set("select", "shared").set("__proto__", "x").set("constructor", "y");
  gpu.verdicts.set("add: only", right).set("__proto__", wrong);
  await saveRecord(gpu);
  const { subgroupSize } = gpu.facts;
  // A lavapipe of another vector width is another adapter, whatever its name says.
  gpu.facts.subgroupSize = subgroupSize + 1;
  gpu.choices.clear();
  gpu.verdicts.clear();
  await loadRecord(gpu, path);
  assertEquals([gpu.choices.size, gpu.verdicts.size], [0, 0]);
  gpu.close();

  assertEquals(await loaded(), {
    choices: [["select", "shared"], ["__proto__", "x"], ["constructor", "y"]],
    verdicts: [["add: only", right], ["__proto__", wrong]],
  });
  const text = JSON.parse(await Deno.readTextFile(path));
  assertEquals(text.other, { choices: { a: "b" }, verdicts: {} });
});

Deno.test("a damaged record is as good as none, and is written over", async () => {
  const adapter = Object.keys(JSON.parse(await Deno.readTextFile(path))).at(-1)!;
  const within = (entry: unknown) => JSON.stringify({ [adapter]: entry });
  const damaged = [
    ...["", "null", "[]", "[[1]]", "7", '"text"', "{", '{"a":', "\0\0\0", "{}"],
    ...[null, [], 7, "text", {}].map(within),
    within({ choices: null, verdicts: null }),
    within({ choices: [["select", "shared"]], verdicts: [right] }),
    within({ choices: { select: 7, a: null, b: {} }, verdicts: { a: null, b: 1, c: [], d: {} } }),
    within({ verdicts: { a: { ...right, error: "0" }, b: { ...wrong, reason: 1 } } }),
    within({ verdicts: { a: { right: true, error: 1 }, b: { ...right, right: "yes" } } }),
    // Small inside, but past what a record can be.
    within({ choices: { select: "shared" } }) + " ".repeat(5 * 2 ** 20),
  ];
  for (const text of damaged) {
    await Deno.writeTextFile(path, text);
    assertEquals(await loaded(), { choices: [], verdicts: [] }, text.slice(0, 80));
  }
  await Deno.remove(path);
  assertEquals(await loaded(), { choices: [], verdicts: [] });
  const gpu = await openGpu();
  await loadRecord(gpu, path);
  gpu.choices.set("select", "private");
  await saveRecord(gpu);
  gpu.close();
  assertEquals((await loaded()).choices, [["select", "private"]]);
});

Deno.test("a record that cannot be written harms nothing", async () => {
  const gpu = await openGpu();
  await loadRecord(gpu, `${path}/no/such/folder.json`);
  await saveRecord(gpu);
  gpu.close();
  await Deno.remove(path);
});
