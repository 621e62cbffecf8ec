// The models this server knows: bases in the models folder (a Hugging Face folder or a .gguf file),
// the tiny ones embedded beside the source, and what was trained from them, `<base>:<suffix>`.
// The folder is read anew each time, so a model copied in is there at once. Nothing is opened.

import { fileURLToPath } from "node:url";
import { InvalidRequest } from "../errors.ts";
import type { ModelReference } from "../engine/messages.ts";
import type { Store } from "./store.ts";

export interface KnownModel {
  id: string;
  kind: "base" | "trained";
  /** Unix seconds. */
  created: number;
  owner: "lorapar" | "user";
  reference: ModelReference;
}

const embeddedFolder = fileURLToPath(new URL("../../models/", import.meta.url));

async function entries(folder: string): Promise<Deno.DirEntry[]> {
  try {
    return (await Array.fromAsync(Deno.readDir(folder)))
      .sort((a, b) => a.name < b.name ? -1 : 1);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

/** Unix seconds of a file's last change, 0 where the system has none; null when there is no file. */
async function changedAt(path: string): Promise<number | null> {
  try {
    return Math.floor(((await Deno.stat(path)).mtime?.getTime() ?? 0) / 1000);
  } catch (error) {
    const isAbsent = error instanceof Deno.errors.NotFound ||
      error instanceof Deno.errors.NotADirectory;
    if (isAbsent) return null;
    throw error;
  }
}

async function basesIn(
  folder: string,
  idOf: (name: string) => string,
  owner: KnownModel["owner"],
): Promise<KnownModel[]> {
  const found: KnownModel[] = [];
  for (const { name } of await entries(folder)) {
    const path = `${folder}${name}`;
    const isGguf = name.endsWith(".gguf");
    const created = await changedAt(isGguf ? path : `${path}/config.json`);
    if (created === null) continue;
    const id = idOf(isGguf ? name.slice(0, -".gguf".length) : name);
    const reference = { id, baseId: id, path, adapterFolder: null };
    found.push({ id, kind: "base", created, owner, reference });
  }
  return found;
}

/** Finds models by the id a request gives; `folder` is LORAPAR_MODELS or null. */
export class Models {
  constructor(
    readonly folder: string | null,
    readonly store: Store,
    readonly embedded = embeddedFolder,
  ) {}

  async #bases(): Promise<KnownModel[]> {
    const embeddedId = (name: string) => `lorapar-${name.replaceAll("_", "-")}`;
    const own = await basesIn(this.embedded, embeddedId, "lorapar");
    const folder = this.folder === null
      ? []
      : await basesIn(`${this.folder}/`, (name) => name, "user");
    const taken = new Set(own.map((model) => model.id));
    return [...own, ...folder.filter((model) => !taken.has(model.id))];
  }

  /** Bases first, then trained models, the oldest first; a trained one whose base is gone is left out. */
  async list(): Promise<KnownModel[]> {
    const bases = await this.#bases();
    const byId = new Map(bases.map((model) => [model.id, model]));
    const trained = this.store.adapters({ limit: 100_000, order: "asc" }).data.flatMap((row) => {
      const base = byId.get(row.base);
      return base ? [this.#trained(row, base)] : [];
    });
    return [...bases, ...trained];
  }

  #trained(
    row: { model: string; folder: string; created_at: number },
    base: KnownModel,
  ): KnownModel {
    return {
      id: row.model,
      kind: "trained",
      created: row.created_at,
      owner: "user",
      reference: {
        id: row.model,
        baseId: base.id,
        path: base.reference.path,
        adapterFolder: this.store.resolve(row.folder),
      },
    };
  }

  /** @throws {InvalidRequest} code "model_not_found", naming `param` and what there is. */
  async get(id: string, param = "model"): Promise<KnownModel> {
    const bases = await this.#bases();
    const base = bases.find((model) => model.id === id);
    if (base) return base;
    const row = this.store.adapterOfModel(id);
    const under = row && bases.find((model) => model.id === row.base);
    if (under) return this.#trained(row, under);
    const names = bases.slice(0, 10).map((model) => model.id).join(", ") || "none";
    throw new InvalidRequest(
      row
        ? `Cannot use the model "${id}": its base "${row.base}" is gone. Put it back into LORAPAR_MODELS.`
        : `Cannot find the model "${id}". Base models here: ${names}. ` +
          "GET /v1/models lists all; put a Hugging Face folder or a .gguf file into LORAPAR_MODELS.",
      param,
      "model_not_found",
    );
  }
}
