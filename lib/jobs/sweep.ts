// What a crash leaves behind: uploads cut off or without a row, folders of dry runs, partitions and
// adapters whose row is gone, and what a job that did not succeed wrote. Removed at start, before
// anything runs. Nothing that a row names is ever removed. Only entries named as this program names them
// are looked at, so that a data folder with other things in it keeps them, and only those made since the
// store was, so that outputs outlive a lorapar.sqlite that was taken away. Links are not followed.

import { getLogger } from "@logtape/logtape";
import { dirname } from "node:path";
import { decodeTime } from "ulid";
import { removeIfThere } from "./disk.ts";
import { isId } from "./ids.ts";

const logger = getLogger(["lorapar", "jobs"]);

/** The folders that are swept, relative to the data folder. */
export const sweptFolders = ["uploads", "jobs", "partitions"];

/** When an entry of a swept folder was made, by its id, as in `file-….jsonl.part`; null if it has none. */
function madeAtMs(name: string): number | null {
  const id = /^[^.]*/.exec(name)![0];
  if (!isId("file", id) && !isId("job", id) && !isId("part", id)) return null;
  return decodeTime(id.slice(id.indexOf("-") + 1).toUpperCase());
}

/** The paths and every folder above them. */
function withFoldersAbove(paths: Iterable<string>): Set<string> {
  const above = new Set<string>();
  for (const path of paths) {
    for (let at = dirname(path); at !== "." && !above.has(at); at = dirname(at)) above.add(at);
  }
  return above;
}

/** What rows name, and the folders above that. */
interface Kept {
  named: ReadonlySet<string>;
  above: ReadonlySet<string>;
}

/** What is not kept of a path: all of it, or what in it is neither named nor above what is. */
function unnamedAt(root: string, path: string, isFolder: boolean, kept: Kept): string[] {
  if (kept.named.has(path)) return [];
  if (!isFolder || !kept.above.has(path)) return [path];
  return [...Deno.readDirSync(`${root}/${path}`)]
    .flatMap((entry) => unnamedAt(root, `${path}/${entry.name}`, entry.isDirectory, kept));
}

/**
 * Removes what is not in `named` at a path and below, which is all of it in most cases. What cannot be
 * removed goes at the next start: the row that named it is gone, and the answer says so.
 */
export async function removeUnnamed(
  root: string,
  at: string,
  named: ReadonlySet<string>,
): Promise<void> {
  try {
    for (const path of unnamedAt(root, at, true, { named, above: withFoldersAbove(named) })) {
      await removeIfThere(`${root}/${path}`);
    }
  } catch (error) {
    logger.warn("Cannot remove {at}, which nothing names any more: {error}", { at, error });
  }
}

/**
 * Removes every upload and output under `root` that is not in `named`; a named folder stays whole.
 * What was made before `sinceMs` stays too.
 */
export function sweep(root: string, named: ReadonlySet<string>, sinceMs: number): void {
  const kept = { named, above: withFoldersAbove(named) };
  const unnamed = sweptFolders.flatMap((folder) =>
    [...Deno.readDirSync(`${root}/${folder}`)]
      .filter(({ name }) => (madeAtMs(name) ?? -1) >= sinceMs)
      .flatMap(({ name, isDirectory }) => unnamedAt(root, `${folder}/${name}`, isDirectory, kept))
  );
  let removed = 0;
  for (const path of unnamed) {
    try {
      Deno.removeSync(`${root}/${path}`, { recursive: true });
      removed++;
    } catch (error) {
      logger.warn("Cannot remove {path}, which nothing names: {error}", { path, error });
    }
  }
  if (removed > 0) logger.info("Removed {removed} uploads and outputs without a row", { removed });
}
