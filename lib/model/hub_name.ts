// The name of a model on the Hugging Face hub, "org/name", where its files say for certain: from the place of a
// folder in the hub's own cache, or from what a GGUF file was converted from. Not from config.json's
// `_name_or_path` nor GGUF's `general.base_model`: those name the model that this one was tuned from.

import { resolve } from "node:path";
import type { GgufValue } from "./gguf.ts";
import { isFile } from "./positioned_file.ts";

/** As the hub allows them; a name without an organisation is one of its first models'. */
const hubId = /^(?:[\w.-]{1,96}\/)?[\w.-]{1,96}$/;

/** The name of a folder in the hub's cache, …/models--org--name/snapshots/<commit>, or null. */
export function hubNameOfFolder(folder: string): string | null {
  let path: string;
  try {
    // A models folder often holds links into the cache.
    path = Deno.realPathSync(folder);
  } catch {
    return null;
  }
  const [, name] = /[/\\]models--([^/\\]+)[/\\]snapshots[/\\][0-9a-f]{40}[/\\]?$/.exec(path) ?? [];
  return checked(name?.replace("--", "/"));
}

/** The name of what a GGUF file was converted from, or null. */
export function hubNameOfGguf(metadata: ReadonlyMap<string, GgufValue>): string | null {
  const repository = metadata.get("general.source.huggingface.repository");
  const urls = ["general.source.repo_url", "general.source.url"].map((key) => metadata.get(key));
  const [address] = urls.filter((url) => typeof url === "string");
  const [, fromAddress] =
    /^https:\/\/(?:huggingface\.co|hf\.co)\/([\w.-]+\/[\w.-]+)\/?$/.exec(address ?? "") ?? [];
  return checked(typeof repository === "string" ? repository : fromAddress);
}

const checked = (name?: string): string | null => name && hubId.test(name) ? name : null;

/**
 * What PEFT is to load an adapter's base from: the name that was given, the hub's, or the folder where it may
 * be told; null otherwise, and for a .gguf file, which PEFT cannot open by its path.
 */
export function exportedBaseName(
  path: string,
  hubName: string | null,
  { name, folderMayBeTold }: { name: string | null; folderMayBeTold: boolean },
): string | null {
  if (name !== null) return name;
  if (hubName !== null) return hubName;
  return folderMayBeTold && !isFile(path) ? resolve(path) : null;
}
