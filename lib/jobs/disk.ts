// Files of the store on disk. What is acknowledged is there after a crash: data is written beside
// its place, synced, renamed, and the folder is synced too.

import { dirname } from "node:path";
import { InvalidRequest } from "../errors.ts";

/** Makes a rename in `folder` last; systems that cannot open a folder do it by themselves. */
async function syncFolder(folder: string): Promise<void> {
  if (Deno.build.os === "windows") return;
  using handle = await Deno.open(folder, { read: true });
  await handle.sync();
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

/** Removes uploads that were cut off, by the ending they have until they are whole. */
export function removePartial(folder: string): void {
  for (const entry of Deno.readDirSync(folder)) {
    if (entry.isFile && entry.name.endsWith(".part")) Deno.removeSync(`${folder}/${entry.name}`);
  }
}

/** Removes a file or folder that may be gone already. */
export async function removeIfThere(path: string): Promise<void> {
  try {
    await Deno.remove(path, { recursive: true });
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}
