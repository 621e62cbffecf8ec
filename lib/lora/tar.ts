// A tar archive (POSIX ustar, by modern-tar) as a stream, for adapter downloads. Files are opened one
// after the other, the first when reading begins, and read no faster than the archive is. The same files
// and time give the same bytes; a file of 8 GiB and more has its size in a pax header.

import { createTarPacker, type TarPackController } from "modern-tar";

/** One file of the archive. */
export interface TarFile {
  /** Where it lies in the archive. */
  name: string;
  path: string;
}

/**
 * The archive, produced as it is read; it fails when a file cannot be read or changes its length
 * meanwhile. Cancelling closes the file that is open.
 * @param mtimeSeconds the time every entry carries, since 1970
 */
export function tarStream(
  files: readonly TarFile[],
  { mtimeSeconds = 0 }: { mtimeSeconds?: number } = {},
): ReadableStream<Uint8Array> {
  const { readable, controller } = createTarPacker();
  const reader = readable.getReader();
  let packing: Promise<void> | null = null;
  return new ReadableStream({
    async pull(archive) {
      packing ??= pack(files, new Date(1000 * mtimeSeconds), controller);
      const { value, done } = await reader.read();
      if (done) archive.close();
      else archive.enqueue(value);
    },
    async cancel(reason) {
      await reader.cancel(reason);
      await packing;
    },
  }, { highWaterMark: 0 });
}

/** Puts the files into the archive; what fails fails the archive. */
async function pack(
  files: readonly TarFile[],
  mtime: Date,
  controller: TarPackController,
): Promise<void> {
  try {
    for (const { name, path } of files) {
      using file = await Deno.open(path, { read: true });
      const { size } = await file.stat();
      await file.readable.pipeTo(controller.add({ name, size, mtime, mode: 0o644 }));
    }
    controller.finalize();
  } catch (error) {
    controller.error(error);
  }
}
