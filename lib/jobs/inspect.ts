// A look at each upload, so that a data set which cannot be read says so at once and not in a job an hour
// later. The upload is stored and acknowledged whatever comes of it: while the engine is down, or when the
// look takes longer than a client should wait, it stays "uploaded". One at a time, so that many uploads
// do not hold many data sets in memory.

import { getLogger } from "@logtape/logtape";
import type { Engine } from "../engine/engine.ts";
import type { FileRow } from "./rows.ts";
import type { Store } from "./store.ts";

const logger = getLogger(["lorapar", "jobs"]);

/** How long an upload's answer waits to be able to say whether the file can be read. */
const defaultWaitMs = 5000;

export class Inspector {
  #last: Promise<void> = Promise.resolve();

  constructor(
    readonly store: Store,
    readonly engine: Engine,
    readonly waitMs = defaultWaitMs,
  ) {}

  /** Looks at an upload and answers its row, which later says more if this took too long. */
  async inspect(row: FileRow): Promise<FileRow> {
    const looked = this.#last.then(() => this.#look(row));
    this.#last = looked;
    let timer: ReturnType<typeof setTimeout>;
    const late = new Promise<void>((resolve) => timer = setTimeout(resolve, this.waitMs));
    await Promise.race([looked, late]).finally(() => clearTimeout(timer));
    return this.store.file(row.id) ?? row;
  }

  /** Never rejects: what it cannot find out stays open. */
  async #look({ id, path, filename }: FileRow): Promise<void> {
    try {
      if (!this.store.file(id)) return;
      const file = { id, path: this.store.resolve(path), filename };
      const { error } = await this.engine.run({ kind: "inspect_file", file });
      if (this.store.file(id)) this.store.setFileStatus(id, error ? "error" : "processed", error);
    } catch (error) {
      logger.debug("Cannot look at {id}: {error}", { id, error });
    }
  }
}
