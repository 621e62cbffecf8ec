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

/** Runs with files of these contents in a folder of their own. */
async function withFiles(
  contents: Record<string, Uint8Array>,
  run: (files: TarFile[]) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "lorapar-test-" });
  try {
    const files: TarFile[] = [];
    for (const [name, bytes] of Object.entries(contents)) {
      const path = `${folder}/${files.length}`;
      await Deno.writeFile(path, bytes);
      files.push({ name, path });
    }
    await run(files);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Paths that this process has open (Linux; elsewhere none). */
function openPaths(): string[] {
  try {
    return [...Deno.readDirSync("/proc/self/fd")].flatMap(({ name }) => {
      try {
        return [Deno.readLinkSync(`/proc/self/fd/${name}`)];
      } catch {
        return []; // the one that read the folder
      }
    });
  } catch {
    return [];
  }
}

Deno.test("tar: files of all sizes", async () => {
  const long = `${"folder/".repeat(20)}adapter_config.json`;
  const contents = {
    "empty": new Uint8Array(0),
    "block": new Uint8Array(512).fill(1),
    [long]: new Uint8Array(513).fill(2),
    // More than one piece of a file.
    "é/model.safetensors": Uint8Array.from({ length: 700_001 }, (_, i) => i * 7),
  };
  await withFiles(contents, async (files) => {
    const archive = await bytesOf(files, { mtimeSeconds: 1_700_000_000 });
    const found = entriesOf(archive);
    assertEquals(found.map(({ name }) => name), Object.keys(contents));
    for (const { name, mode, mtime, bytes } of found) {
      assertEquals([name, mode, mtime], [name, 0o644, 1_700_000_000]);
      assertEquals(bytes, contents[name]);
    }
    assertEquals(await bytesOf(files, { mtimeSeconds: 1_700_000_000 }), archive);
  });
});

Deno.test("tar: a file of more than 8 GiB has its size in a pax header", async () => {
  await withFiles({ large: new Uint8Array(1) }, async (files) => {
    await Deno.truncate(files[0].path, 2 ** 33 + 1);
    const reader = tarStream(files).getReader();
    let head = "";
    while (head.length < 1024) head += new TextDecoder().decode((await reader.read()).value);
    assert(head.includes(" size=8589934593\n"), head);
    await reader.cancel();
  });
});

Deno.test("tar: missing files, and files whose length changes, fail the archive", async () => {
  await assertRejects(() => bytesOf([{ name: "a", path: "/nowhere/at/all" }]));
  await withFiles({ a: new Uint8Array(2 ** 26) }, async (files) => {
    const reader = tarStream(files).getReader();
    await reader.read();
    await Deno.truncate(files[0].path, 2 ** 25);
    await assertRejects(async () => {
      while (!(await reader.read()).done);
    }, /Size mismatch/);
  });
});

Deno.test("tar: nothing is open before reading begins and after the reader left", async () => {
  await withFiles({ a: new Uint8Array(2 ** 26), b: new Uint8Array(1) }, async (files) => {
    const open = () => openPaths().filter((path) => files.some((file) => file.path === path));
    const unread = tarStream(files);
    await new Promise((resolve) => setTimeout(resolve, 20));
    assertEquals(open(), []);
    await unread.cancel();

    const reader = tarStream(files).getReader();
    await reader.read();
    await reader.read();
    if (Deno.build.os === "linux") assertEquals(open(), [files[0].path]);
    await reader.cancel();
    // A read that is under way holds the file a moment longer.
    for (let i = 0; i < 100 && open().length > 0; i++) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    assertEquals(open(), []);
    await bytesOf(files);
    assertEquals(open(), []);
  });
});
