// What a crash leaves behind: uploads cut off or without a row, folders of dry runs, partitions and
// adapters whose row is gone, and what a job that did not succeed wrote. Removed at start, before
// anything runs. Only entries named as this program names them are looked at, so that a data folder
// with other things in it keeps them, and nothing that a row names is ever removed. Links are not followed.

import { getLogger } from "@logtape/logtape";
import { dirname } from "node:path";
import { isId } from "./ids.ts";

const logger = getLogger(["lorapar", "jobs"]);

/** The folders that are swept, relative to the data folder. */
export const sweptFolders = ["uploads", "jobs", "partitions"];

/** Whether an entry of a swept folder is named by an id of ours, `file-….jsonl.part` included. */
function isOurs(name: string): boolean {
  const id = /^[^.]*/.exec(name)![0];
  return isId("file", id) || isId("job", id) || isId("part", id);
}

/** The paths and every folder above them. */
function withFoldersAbove(paths: Iterable<string>): Set<string> {
  const above = new Set<string>();
  for (const path of paths) {
    for (let at = dirname(path); at !== "." && !above.has(at); at = dirname(at)) above.add(at);
  }
  return above;
}

/** Paths below `folder` that are not in `named`, nor on the way to it; all relative to `root`. */
export function unnamedIn(
  root: string,
  folder: string,
  named: ReadonlySet<string>,
  isCandidate: (name: string) => boolean = () => true,
): string[] {
  const above = withFoldersAbove(named);
  const look = (folder: string, isCandidate: (name: string) => boolean): string[] =>
    [...Deno.readDirSync(`${root}/${folder}`)].flatMap(({ name, isDirectory }) => {
      const path = `${folder}/${name}`;
      if (named.has(path) || !isCandidate(name)) return [];
      return isDirectory && above.has(path) ? look(path, () => true) : [path];
    });
  return look(folder, isCandidate);
}

/** Removes every upload and output under `root` that is not in `named`; a named folder stays whole. */
export function sweep(root: string, named: ReadonlySet<string>): void {
  let removed = 0;
  for (const path of sweptFolders.flatMap((folder) => unnamedIn(root, folder, named, isOurs))) {
    try {
      Deno.removeSync(`${root}/${path}`, { recursive: true });
      removed++;
    } catch (error) {
      logger.warn("Cannot remove {path}, which nothing names: {error}", { path, error });
    }
  }
  if (removed > 0) logger.info("Removed {removed} uploads and outputs without a row", { removed });
}
