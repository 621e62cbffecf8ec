import { assert, assertEquals } from "@std/assert";
import { type TarFile, tarStream } from "../../../lib/lora/tar.ts";
import { assertRejects } from "../../asserts.ts";

const bytesOf = async (files: TarFile[], options?: { mtimeSeconds?: number }) =>
  new Uint8Array(await new Response(tarStream(files, options)).arrayBuffer());

/** The entries of an archive, read by the fields of POSIX ustar; every header's checksum is checked. */
function entriesOf(archive: Uint8Array) {
  const text = (at: number, length: number) =>
    new TextDecoder().decode(archive.subarray(at, at + length)).split("\0")[0];
  const entries = [];
  let at = 0;
  for (; archive[at] !== 0;) {
    const sum = archive.subarray(at, at + 512)
      .reduce((total, byte, i) => total + (i >= 148 && i < 156 ? 32 : byte), 0);
    assertEquals(parseInt(text(at + 148, 8), 8), sum);
    assertEquals([text(at + 257, 6), text(at + 263, 2), text(at + 156, 1)], ["ustar", "00", "0"]);
    const size = parseInt(text(at + 124, 12), 8);
    const prefix = text(at + 345, 155);
    entries.push({
      name: (prefix ? prefix + "/" : "") + text(at, 100),
      mode: parseInt(text(at + 100, 8), 8),
      mtime: parseInt(text(at + 136, 12), 8),
      bytes: archive.slice(at + 512, at + 512 + size),
    });
    at += 512 + Math.ceil(size / 512) * 512;
  }
  assertEquals(archive.length - at, 1024);
  assert(archive.subarray(at).every((byte) => byte === 0));
  return entries;
}

Deno.test("tar: files of all sizes, from memory and from disk", async () => {
  const path = await Deno.makeTempFile({ prefix: "lorapar-test-" });
  // More than one chunk.
  const large = Uint8Array.from({ length: 700_001 }, (_, i) => i * 7);
  await Deno.writeFile(path, large);
  const long = `${"folder/".repeat(20)}adapter_config.json`;
  const files: TarFile[] = [
    { name: "empty", bytes: new Uint8Array(0) },
    { name: "block", bytes: new Uint8Array(512).fill(1) },
    { name: long, bytes: new Uint8Array(513).fill(2) },
    { name: "é/model.safetensors", path },
  ];
  const archive = await bytesOf(files, { mtimeSeconds: 1_700_000_000 });
  const found = entriesOf(archive);
  assertEquals(found.map(({ name, bytes }) => [name, bytes.length]), [
    ["empty", 0],
    ["block", 512],
    [long, 513],
    ["é/model.safetensors", 700_001],
  ]);
  assert(found.every(({ mode, mtime }) => mode === 0o644 && mtime === 1_700_000_000));
  assertEquals(found[2].bytes, new Uint8Array(513).fill(2));
  assertEquals(found[3].bytes, large);
  assertEquals(await bytesOf(files, { mtimeSeconds: 1_700_000_000 }), archive);
  await Deno.remove(path);
});

Deno.test("tar: names that do not fit, and missing files, fail the stream", async () => {
  const bytes = new Uint8Array(1);
  for (const name of ["", "/etc/passwd", "../x", "x".repeat(101), `${"y".repeat(156)}/x`]) {
    await assertRejects(() => bytesOf([{ name, bytes }]), RangeError, name);
  }
  await assertRejects(() => bytesOf([{ name: "a", path: "/nowhere/at/all" }]));
});

Deno.test("tar: a reader that leaves closes the file", async () => {
  const path = await Deno.makeTempFile({ prefix: "lorapar-test-" });
  await Deno.writeFile(path, new Uint8Array(1 << 20));
  const reader = tarStream([{ name: "a", path }]).getReader();
  await reader.read();
  await reader.read();
  await reader.cancel();
  await Deno.remove(path);
});
