import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { CheckMark } from "../../../kernels/check/mark.ts";

const script = new URL("./dies_while_checking.ts", import.meta.url).pathname;
const exists = (path: string) => Deno.stat(path).then(() => true, () => false);

Deno.test("a variant that ended the process is left alone from then on", async () => {
  const folder = await Deno.makeTempDir();
  const record = `${folder}/record.json`;
  const run = async () => {
    const args = ["run", "-A", script, record];
    const { signal, stdout } = await new Deno.Command(Deno.execPath(), { args }).output();
    return { signal, stdout: new TextDecoder().decode(stdout) };
  };
  assertStrictEquals((await run()).signal, "SIGKILL");
  assert(await exists(`${record}.checking`));
  // Twice, because the second time it is known from the record.
  for (const _ of [1, 2]) {
    const { signal, stdout } = await run();
    assertStrictEquals(signal, null);
    const { "fill: deadly": deadly, "fill: harmless": harmless } = JSON.parse(stdout);
    assertEquals([deadly.right, harmless.right], [false, true]);
    assertEquals(deadly.reason, "the process ended while it was checked");
    assertEquals(await exists(`${record}.checking`), false);
  }
  await Deno.remove(folder, { recursive: true });
});

Deno.test("a mark of a living process accuses nobody", async () => {
  const folder = await Deno.makeTempDir();
  const record = `${folder}/record.json`;
  const marked = { key: "add: only", fingerprint: "ab12" };
  const first = await CheckMark.open(record);
  await first.mark.set({ ...marked, key: "a longer key than the one that follows it: only" });
  await first.mark.set(marked);
  const second = await CheckMark.open(record);
  assertEquals(second.died, null);
  await second.mark.set({ ...marked, key: "other: only" });
  await second.mark.close();
  assertEquals(JSON.parse(await Deno.readTextFile(`${record}.checking`)), marked);
  await first.mark.close();
  assertEquals((await CheckMark.open(record)).died, null);
  await Deno.remove(folder, { recursive: true });
});

Deno.test("a damaged mark accuses nobody, and where none can be made nothing is marked", async () => {
  const folder = await Deno.makeTempDir();
  for (const text of ["", "null", "[]", '{"key":1}', '{"key":"a"}', "{"]) {
    await Deno.writeTextFile(`${folder}/record.json.checking`, text);
    const { mark, died } = await CheckMark.open(`${folder}/record.json`);
    assertEquals(died, null, text);
    await mark.close();
  }
  for (const record of [null, `${folder}/no/such/folder.json`]) {
    const { mark, died } = await CheckMark.open(record);
    await mark.set({ key: "add: only", fingerprint: "ab12" });
    await mark.close();
    assertEquals(died, null);
  }
  await Deno.remove(folder, { recursive: true });
});
