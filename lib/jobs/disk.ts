// Files of the store on disk. What is acknowledged is there after a crash: an upload is written beside
// its place, synced, renamed, and the folder is synced too; what a job wrote is synced as a tree before
// its row says that it succeeded.

import { dirname } from "node:path";
import { InvalidRequest } from "../errors.ts";

/** Makes names in `folder` last; systems that cannot open a folder do it by themselves. */
export async function syncFolder(folder: string): Promise<void> {
  if (Deno.build.os === "windows") return;
  using handle = await Deno.open(folder, { read: true });
  await handle.sync();
}

/** The same at once, before anything else runs. */
export function syncFolderNow(folder: string): void {
  if (Deno.build.os === "windows") return;
  using handle = Deno.openSync(folder, { read: true });
  handle.syncSync();
}

/**
 * Puts everything under `folder` on the disk: bytes first, then the names of each folder, its own name
 * in the one above last. Links are left alone.
 * A failure is final: after one, the system may count bytes as written that are not.
 */
export async function syncTree(folder: string): Promise<void> {
  const sync = async (folder: string): Promise<void> => {
    for await (const { name, isFile, isDirectory } of Deno.readDir(folder)) {
      const path = `${folder}/${name}`;
      if (isDirectory) await sync(path);
      if (!isFile) continue;
      using file = await Deno.open(path, { write: true });
      await file.sync();
    }
    await syncFolder(folder);
  };
  await sync(folder);
  await syncFolder(dirname(folder));
}

/**
 * Streams `chunks` into `path` and answers the bytes written.
 * @throws {InvalidRequest} code "too_large" past `maxBytes`; nothing stays on disk then.
 */
export async function writeDurably(
  path: string,
  chunks: AsyncIterable<Uint8Array>,
  maxBytes: number,
): Promise<number> {
  const part = `${path}.part`;
  let bytes = 0;
  try {
    {
      using file = await Deno.open(part, { write: true, createNew: true });
      for await (const chunk of chunks) {
        bytes += chunk.length;
        if (bytes > maxBytes) {
          throw new InvalidRequest(
            `Cannot store the file: it is larger than ${maxBytes} bytes. ` +
              "Split it, or raise limits.max_upload_bytes.",
            "file",
            "too_large",
          );
        }
        for (let done = 0; done < chunk.length;) done += await file.write(chunk.subarray(done));
      }
      await file.sync();
    }
    await Deno.rename(part, path);
    await syncFolder(dirname(path));
  } catch (error) {
    await Deno.remove(part).catch(() => {});
    throw error;
  }
  return bytes;
}

/** Removes a file or folder that may be gone already. */
export async function removeIfThere(path: string): Promise<void> {
  try {
    await Deno.remove(path, { recursive: true });
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

/** Makes a folder that only this user may read, without whatever an earlier run left in it. */
export async function emptyFolder(path: string): Promise<void> {
  await removeIfThere(path);
  await Deno.mkdir(path, { mode: 0o700 });
}
