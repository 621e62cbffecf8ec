// The models this server knows: bases in the models folder (a Hugging Face folder or a .gguf file),
// the tiny ones embedded beside the source, and what was trained from them, `<base>:<suffix>`.
// The folder is read anew each time, so a model copied in is there at once. What cannot be used is listed
// with the reason and refused with it; the headers of a model's files are read for that, once for each
// state of the files.

import { getLogger } from "@logtape/logtape";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { InvalidFile, InvalidRequest } from "../errors.ts";
import type { ModelReference } from "../engine/messages.ts";
import { modelVersion } from "../model/model_files.ts";
import { whyUnusable } from "../model/usable.ts";
import type { AdapterRow } from "./rows.ts";
import type { Store } from "./store.ts";

const logger = getLogger(["lorapar", "jobs"]);

export interface KnownModel {
  id: string;
  kind: "base" | "trained";
  /** Unix seconds. */
  created: number;
  owner: "lorapar" | "user";
  /** The id of a trained model's adapter. */
  adapter: string | null;
  reference: ModelReference;
}

/** A model with the reason why it cannot be used, null when it can. */
export interface ListedModel extends KnownModel {
  problem: string | null;
}

const embeddedFolder = fileURLToPath(new URL("../../models/", import.meta.url));

async function entries(folder: string): Promise<Deno.DirEntry[]> {
  try {
    return (await Array.fromAsync(Deno.readDir(folder)))
      .sort((a, b) => a.name < b.name ? -1 : 1);
  } catch (error) {
    logger.warn("Cannot look for models in {folder}: {error}", { folder, error });
    return [];
  }
}

/**
 * Unix seconds of a file's last change; 0 where there is no telling, as with a loop of links or a folder
 * that may not be read, of which the user is told later; null when there is no file.
 */
async function changedAt(path: string): Promise<number | null> {
  try {
    return Math.floor(((await Deno.stat(path)).mtime?.getTime() ?? 0) / 1000);
  } catch (error) {
    const isAbsent = error instanceof Deno.errors.NotFound ||
      error instanceof Deno.errors.NotADirectory;
    return isAbsent ? null : 0;
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
    // A .gguf that is there by name only is a link to nothing: listed, as its owner will look for it.
    if (created === null && !isGguf) continue;
    const id = idOf(isGguf ? name.slice(0, -".gguf".length) : name);
    const reference = { id, baseId: id, path, adapterFolder: null };
    found.push({ id, kind: "base", created: created ?? 0, owner, adapter: null, reference });
  }
  return found;
}

/** Finds models by the id a request gives; `folder` is LORAPAR_MODELS or null. */
export class Models {
  /** By path: the state of the files and what was found of it. */
  readonly #checked = new Map<string, { version: string; problem: string | null }>();

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
    // Of several of one name the first counts, the embedded one before all.
    const seen = new Set<string>();
    return [...own, ...folder].filter(({ id }) => !seen.has(id) && seen.add(id));
  }

  /** Bases first, then trained models, the oldest first; a trained one whose base is gone is left out. */
  async list(): Promise<ListedModel[]> {
    const bases: ListedModel[] = [];
    for (const model of await this.#bases()) {
      bases.push({ ...model, problem: await this.problemOf(model) });
    }
    const byId = new Map(bases.map((model) => [model.id, model]));
    const trained = this.store.adapters({ limit: 100_000, order: "asc" }).data.flatMap((row) => {
      const base = byId.get(row.base);
      return base ? [{ ...this.#trained(row, base), problem: base.problem }] : [];
    });
    return [...bases, ...trained];
  }

  /** Why the base under a model cannot be used, or null. */
  async problemOf({ reference: { path } }: KnownModel): Promise<string | null> {
    // Where the models folder is on this machine is nothing that the API's users need to know.
    const short = (problem: string | null) => problem?.replaceAll(`${dirname(path)}/`, "") ?? null;
    let version: string;
    try {
      version = await modelVersion(path);
    } catch (error) {
      return short((error as Error).message);
    }
    const before = this.#checked.get(path);
    if (before?.version === version) return before.problem;
    const problem = short(whyUnusable(path));
    this.#checked.set(path, { version, problem });
    return problem;
  }

  #trained(row: AdapterRow, base: KnownModel): KnownModel {
    return {
      id: row.model,
      kind: "trained",
      created: row.created_at,
      owner: "user",
      adapter: row.id,
      reference: {
        id: row.model,
        baseId: base.id,
        path: base.reference.path,
        adapterFolder: this.store.resolve(row.folder),
      },
    };
  }

  /** A model whether it can be used or not. @throws {InvalidRequest} code "model_not_found". */
  async find(id: string, param = "model"): Promise<KnownModel> {
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

  /**
   * A model to use.
   * @throws {InvalidRequest} code "model_not_found", naming `param` and what there is
   * @throws {InvalidFile} code "model_unusable", with the reason
   */
  async get(id: string, param = "model"): Promise<KnownModel> {
    const model = await this.find(id, param);
    const problem = await this.problemOf(model);
    if (problem === null) return model;
    throw new InvalidFile(`Cannot use the model "${id}": ${problem}`, param, "model_unusable");
  }
}
