// How many connections the file descriptors of this process allow. It must be known beforehand: once
// node:http could not accept a connection for want of one, it accepts none any more (Deno 2.9).

import { getLogger } from "@logtape/logtape";

const logger = getLogger(["lorapar", "http"]);

/** Descriptors that connections leave alone: for the engine, models, data sets, and those being closed. */
const reservedDescriptors = 128;

/** How many more descriptors this process may have, up to `wanted`. */
function freeDescriptors(wanted: number): number {
  const files: Deno.FsFile[] = [];
  try {
    while (files.length < wanted) files.push(Deno.openSync(Deno.execPath()));
    return wanted;
  } catch (error) {
    const { code } = error as { code?: string };
    // Where nothing can be told by opening files, the limit is taken as high enough.
    return code === "EMFILE" || code === "ENFILE" ? files.length : wanted;
  } finally {
    for (const file of files) file.close();
  }
}

/**
 * How many connections there may be: `wanted`, or fewer where there are not two descriptors for each,
 * its own and that of the file it sends. @throws {Error} when hardly any are left.
 */
export function connectionLimit(wanted: number): number {
  const free = freeDescriptors(2 * wanted + reservedDescriptors);
  const limit = Math.min(wanted, Math.floor((free - reservedDescriptors) / 2));
  if (limit < Math.min(wanted, 8)) {
    throw new Error(
      `Cannot serve with ${free} free file descriptors: raise the limit (ulimit -n) to 1024.`,
    );
  }
  if (limit < wanted) {
    logger.warn(
      "At most {limit} connections at a time, not {wanted}: few file descriptors are free. Raise " +
        "the limit (ulimit -n), or set limits.max_connections.",
      { limit, wanted },
    );
  }
  return limit;
}
