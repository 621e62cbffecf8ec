// Which state of its files a model was loaded from. A folder or file may be replaced while the server
// runs, so whoever keeps a model compares this before using it again. Only the file system's records are
// read, never the contents.

import { InvalidFile } from "../errors.ts";
import { reason } from "./positioned_file.ts";

/** Files of a Hugging Face folder that decide what the model computes: config, tokenizer, weights. */
const isPart = (name: string) => /\.(json|jinja|safetensors)$/.test(name);

/**
 * A text that changes when a file of the model is written, replaced, added or removed: name, size, time
 * and inode of each. Two files of one size, time and inode count as the same.
 * @throws {InvalidFile} when there is nothing at `path`
 */
export async function modelVersion(path: string): Promise<string> {
  try {
    const found = await Deno.stat(path);
    if (!found.isDirectory) return describe("", found);
    const names: string[] = [];
    for await (const { name } of Deno.readDir(path)) if (isPart(name)) names.push(name);
    const files = names.sort().map(async (name) =>
      describe(name, await Deno.stat(`${path}/${name}`))
    );
    return (await Promise.all(files)).join("\n");
  } catch (error) {
    throw new InvalidFile(`Cannot look at the files of the model ${path}: ${reason(error)}`);
  }
}

function describe(name: string, { size, mtime, ino }: Deno.FileInfo): string {
  return `${name} ${size} ${mtime?.getTime() ?? 0} ${ino ?? 0}`;
}
