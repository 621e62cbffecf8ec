import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { CheckMark } from "../../../kernels/check/mark.ts";

const script = new URL("./dies_while_checking.ts", import.meta.url).pathname;
const exists = (path: string) => Deno.stat(path).then(() => true, () => false);

Deno.test("a variant that ended the process twice is left alone from then on", async () => {
  const folder = await Deno.makeTempDir();
  const record = `${folder}/record.json`;
  const run = async () => {
    const args = ["run", "-A", script, record];
    const { signal, stdout } = await new Deno.Command(Deno.execPath(), { args }).output();
    return { signal, stdout: new TextDecoder().decode(stdout) };
  };
  for (const ends of [1, 2]) {
    assertStrictEquals((await run()).signal, "SIGKILL");
    assertEquals(JSON.parse(await Deno.readTextFile(`${record}.checking`)).ends, ends);
  }
  // Twice, because the second time it is known from the record.
  for (const _ of [1, 2]) {
    const { signal, stdout } = await run();
    assertStrictEquals(signal, null);
    const { "fill: deadly": deadly, "fill: harmless": harmless } = JSON.parse(stdout);
    assertEquals([deadly.right, harmless.right], [false, true]);
    assert(/^2 times the process ended or .*; delete record\.json in /.test(deadly.reason));
    assertEquals(await exists(`${record}.checking`), false);
  }
  await Deno.remove(folder, { recursive: true });
});

Deno.test("a lost device counts as an end, another variant's check as none", async () => {
  const folder = await Deno.makeTempDir();
  const record = `${folder}/record.json`;
  const endsAfter = async (...keys: string[]) => {
    const mark = await CheckMark.open(record);
    for (const key of keys) await mark.set(key, "ab12");
    await mark.close({ hasLostDevice: true });
    return JSON.parse(await Deno.readTextFile(`${record}.checking`)).ends;
  };
  assertEquals(await endsAfter("a"), 1);
  // Others' checks that went well lie in between.
  const others = await CheckMark.open(record);
  await others.set("b", "ab12");
  await others.close();
  assertEquals(await endsAfter("b", "a"), 2);
  assertEquals(await endsAfter("b"), 1);
  await Deno.remove(folder, { recursive: true });
});

Deno.test("a mark of a living process accuses nobody", async () => {
  const folder = await Deno.makeTempDir();
  const record = `${folder}/record.json`;
  const first = await CheckMark.open(record);
  await first.set("a longer key than the one that follows it: only", "ab12");
  await first.set("add: only", "ab12");
  const second = await CheckMark.open(record);
  assertEquals(second.found, null);
  await second.set("other: only", "ab12");
  await second.close();
  const marked = { key: "add: only", fingerprint: "ab12", ends: 1 };
  assertEquals(JSON.parse(await Deno.readTextFile(`${record}.checking`)), marked);
  await first.close();
  const third = await CheckMark.open(record);
  assertEquals(third.found, null);
  await third.close();
  await Deno.remove(folder, { recursive: true });
});

Deno.test("a damaged mark accuses nobody, and where none can be made nothing is marked", async () => {
  const folder = await Deno.makeTempDir();
  const damaged = [
    "",
    "null",
    "[]",
    '{"key":1}',
    '{"key":"a"}',
    "{",
    '{"key":"a","fingerprint":"b"}',
  ];
  for (const text of damaged) {
    await Deno.writeTextFile(`${folder}/record.json.checking`, text);
    const mark = await CheckMark.open(`${folder}/record.json`);
    assertEquals(mark.found, null, text);
    await mark.close();
  }
  for (const record of [null, `${folder}/no/such/folder.json`]) {
    const mark = await CheckMark.open(record);
    await mark.set("add: only", "ab12");
    await mark.close();
    assertEquals(mark.found, null);
  }
  await Deno.remove(folder, { recursive: true });
});
