// The store: rows in one SQLite file, files beside it. Everything the server acknowledged is here,
// so a restart still has it.
//   <data>/lorapar.sqlite   files, jobs, events, partitions, adapters
//   <data>/uploads/         uploaded files, named by their id
//   <data>/jobs/<id>/       what a job writes;  <data>/partitions/<id>/ a rethresholded partition
// On a full disk whatever a client asks to be written is refused with a StorageError (507), while what
// a job says of itself, progress, metrics, its end, is held in memory, shown as if it were written, and
// written once there is room: neither is a training lost for a row of metrics, nor a state wrong for good.

import { getLogger } from "@logtape/logtape";
import { dirname, resolve } from "node:path";
import { storageFailure } from "../errors.ts";
import { type Condition, Database, equal, type Table } from "./database.ts";
import { removeIfThere, syncFolderNow, writeDurably } from "./disk.ts";
import { HeldWrites, type NewEvent } from "./held.ts";
import { newId } from "./ids.ts";
import type {
  AdapterRow,
  ErrorObject,
  EventRow,
  EventType,
  FileRow,
  FileStatus,
  JobChange,
  JobRow,
  Page,
  PageQuery,
  PartitionRow,
} from "./rows.ts";
import { removeUnnamed, sweep, sweptFolders } from "./sweep.ts";

const logger = getLogger(["lorapar", "jobs"]);

/** Seconds since 1970, whole. */
export function nowSeconds(): number {
  return Math.floor(Date.now() / 1000);
}

/** What a job that the server's stop cut off says. */
export const interruptedError: ErrorObject = {
  message:
    "The server stopped before this job ended, and what it had made so far is not kept. Send " +
    "the same request again to start it anew.",
  type: "server_error",
  param: null,
  code: "interrupted",
};

function statusEvent(status: JobRow["status"], error: ErrorObject | null = null): NewEvent {
  return { type: "status", data: { status, error } };
}

/** The store in one data folder; one process at a time may hold it. */
export class Store {
  readonly #db: Database;
  readonly #held = new HeldWrites((id, change, events) =>
    this.durably(() => this.#writeJob(id, change, events))
  );

  /**
   * Opens or makes the store, removes what nothing names, and marks jobs that a stop cut off as failed.
   * Jobs that never began stay queued.
   * @throws {Error} when another process holds it or a newer program wrote it.
   */
  constructor(readonly folder: string) {
    for (const name of sweptFolders) {
      Deno.mkdirSync(`${folder}/${name}`, { recursive: true, mode: 0o700 });
    }
    this.#db = new Database(folder);
    // Names in the folders made above are synced one by one, so theirs have to be too.
    syncFolderNow(folder);
    try {
      syncFolderNow(dirname(resolve(folder)));
    } catch (error) {
      // A folder that this user may pass but not read: whoever set it up made the data folder.
      if (!(error instanceof Deno.errors.PermissionDenied)) throw error;
    }
    const made = this.#db.get<{ made_at_ms: number }>("SELECT made_at_ms FROM store")!;
    sweep(folder, this.#namedPaths(), made.made_at_ms);
    const cut = this.#db.all<{ id: string }>(
      "SELECT id FROM jobs WHERE status IN ('running', 'paused')",
    );
    for (const { id } of cut) this.endJob(id, "failed", interruptedError);
  }

  close(): void {
    this.#held.flush();
    this.#held.close();
    this.#db.close();
  }

  /** The absolute or working-directory path of a path the store keeps. */
  resolve(path: string): string {
    return `${this.folder}/${path}`;
  }

  /** Runs `change` in one transaction that is on the disk when this returns. */
  durably<T>(change: () => T): T {
    return this.#db.transaction(change, true);
  }

  /** Every path that a row names, relative to the data folder. */
  #namedPaths(): Set<string> {
    const rows = this.#db.all<{ path: string }>(
      "SELECT path FROM files UNION SELECT folder FROM partitions UNION SELECT folder FROM adapters",
    );
    return new Set(rows.map(({ path }) => path));
  }

  /**
   * Removes rows and then what they named. On a full disk it is the other way round, as that is what makes
   * room for the rows' removal.
   */
  async #remove(at: string, removeRows: () => void): Promise<void> {
    try {
      this.durably(removeRows);
    } catch (error) {
      if (!storageFailure(error)) throw error;
      await removeIfThere(this.resolve(at));
      this.durably(removeRows);
    }
    await removeUnnamed(this.folder, at, this.#namedPaths());
  }

  #get<T>(table: Table, id: string): T | null {
    return this.#db.get<T>(`SELECT * FROM ${table} WHERE id = ?`, id);
  }

  /** The condition that a job has this status, counting what is held. */
  #hasStatus(status: JobRow["status"]): Condition {
    const held = this.#held.ids.filter((id) => this.#held.get(id)?.change.status !== undefined);
    const having = held.filter((id) => this.#held.get(id)?.change.status === status);
    return [
      "status = ? AND id NOT IN (SELECT value FROM json_each(?)) OR " +
      "id IN (SELECT value FROM json_each(?))",
      status,
      JSON.stringify(held),
      JSON.stringify(having),
    ];
  }

  // Files

  /**
   * Streams an upload to disk; the row is made by `addFile` once the rest of the request is read.
   * @throws {InvalidRequest} when it is longer than `maxBytes`.
   */
  async writeUpload(
    filename: string,
    chunks: AsyncIterable<Uint8Array>,
    maxBytes: number,
  ): Promise<Pick<FileRow, "id" | "bytes" | "filename" | "path">> {
    const id = newId("file");
    const ending = /\.[a-z0-9]{1,8}$/.exec(filename.toLowerCase())?.[0] ?? "";
    const path = `uploads/${id}${ending}`;
    return { id, bytes: await writeDurably(this.resolve(path), chunks, maxBytes), filename, path };
  }

  /** Removes an upload whose request turned out wrong; it has no row. */
  async discardUpload(path: string): Promise<void> {
    await removeIfThere(this.resolve(path));
  }

  /** Adds the row of a file that is on disk already; an upload that is to be looked at is "uploaded". */
  addFile(
    file: Pick<FileRow, "id" | "bytes" | "filename" | "path" | "purpose">,
    status: FileStatus = "processed",
  ): FileRow {
    const row: FileRow = { ...file, created_at: nowSeconds(), status, status_details: null };
    this.durably(() => this.#db.insert("files", row));
    return row;
  }

  /** Adds a file that a job wrote into its folder; call it inside `durably`. */
  addJobFile(jobId: string, name: string, purpose: string): FileRow {
    const path = `jobs/${jobId}/${name}`;
    const { size } = Deno.statSync(this.resolve(path));
    const row: FileRow = {
      id: newId("file"),
      bytes: size,
      created_at: nowSeconds(),
      filename: name,
      purpose,
      path,
      status: "processed",
      status_details: null,
    };
    this.#db.insert("files", row);
    return row;
  }

  /** Notes what a look at an upload found. */
  setFileStatus(id: string, status: FileStatus, details: string | null): void {
    this.durably(() => this.#db.update("files", id, { status, status_details: details }));
  }

  file(id: string): FileRow | null {
    return this.#get("files", id);
  }

  files(query: PageQuery): Page<FileRow> {
    return this.#db.page("files", query, equal({ purpose: query.purpose }));
  }

  /** Removes the row and the bytes. */
  async removeFile(row: FileRow): Promise<void> {
    await this.#remove(row.path, () => this.#db.run("DELETE FROM files WHERE id = ?", row.id));
  }

  // Jobs and their events

  addJob(id: string, kind: JobRow["kind"], request: unknown): JobRow {
    const row: JobRow = {
      id,
      kind,
      status: "queued",
      created_at: nowSeconds(),
      started_at: null,
      finished_at: null,
      progress: null,
      request,
      result: null,
      error: null,
    };
    this.durably(() => {
      this.#db.insert("jobs", row);
      this.#writeJob(id, {}, [statusEvent("queued")]);
    });
    return row;
  }

  job(id: string): JobRow | null {
    const row = this.#get<JobRow>("jobs", id);
    return row && { ...row, ...this.#held.get(id)?.change };
  }

  jobs(query: PageQuery): Page<JobRow> {
    const { kind, status } = query;
    const conditions = [
      ...equal({ kind }),
      ...(status === undefined ? [] : [this.#hasStatus(status)]),
    ];
    const page = this.#db.page<JobRow>("jobs", query, conditions);
    const data = page.data.map((row) => ({ ...row, ...this.#held.get(row.id)?.change }));
    return { ...page, data };
  }

  /** Jobs that wait for their turn, in their order. */
  queuedJobs(): JobRow[] {
    return this.#db.all("SELECT * FROM jobs WHERE status = 'queued' ORDER BY seq");
  }

  /** Marks a job as running. @throws on a full disk, and the job has not begun. */
  beginJob(id: string): void {
    const change: JobChange = { status: "running", started_at: nowSeconds() };
    this.#db.transaction(() => this.#writeJob(id, change, [statusEvent("running")]), false);
  }

  /**
   * Ends a job whose results `register` adds in the same transaction; it answers what the API shows.
   * @throws on a full disk, and nothing is changed.
   */
  succeedJob(id: string, register: () => unknown): void {
    this.durably(() => {
      const held = this.#held.pending(id);
      if (held) this.#writeJob(id, ...held);
      const result = register();
      const change: JobChange = { status: "succeeded", finished_at: nowSeconds(), result };
      this.#writeJob(id, change, [statusEvent("succeeded")]);
    });
    this.#held.delete(id);
  }

  /** Ends a job without a result; what cannot be written is held, whatever the cause. */
  endJob(id: string, status: "failed" | "cancelled", error: JobRow["error"]): void {
    const change: JobChange = { status, finished_at: nowSeconds(), error };
    this.#writeOrHold(id, change, [statusEvent(status, error)], true);
  }

  /** Writes what a job says while it runs, or holds it while the disk is full. */
  record(id: string, change: JobChange, events: NewEvent[]): void {
    this.#writeOrHold(id, change, events, false);
  }

  #writeOrHold(id: string, change: JobChange, events: NewEvent[], isEnd: boolean): void {
    if (!this.#held.get(id)) {
      try {
        return this.#db.transaction(() => this.#writeJob(id, change, events), isEnd);
      } catch (error) {
        if (!isEnd && !storageFailure(error)) throw error;
        logger.error("Cannot write the state of {id} now, trying again until it is: {error}", {
          id,
          error,
        });
      }
    }
    this.#held.add(id, change, events, this.#lastNumber(id), nowSeconds());
  }

  /** Changes a job's columns and appends events, numbered from 1 in each job. */
  #writeJob(id: string, change: JobChange, events: (NewEvent & { created_at?: number })[]): void {
    this.#db.update("jobs", id, change);
    let number = this.#lastNumber(id);
    for (const { type, data, created_at = nowSeconds() } of events) {
      this.#db.insert("events", { job_id: id, number: ++number, type, created_at, data });
    }
  }

  #lastNumber(jobId: string): number {
    return this.#db.get<{ last: number }>(
      "SELECT coalesce(max(number), 0) AS last FROM events WHERE job_id = ?",
      jobId,
    )!.last;
  }

  /** Events of a job numbered past `after`, in order; of one type when it is given. */
  events(jobId: string, after: number, limit: number, type?: EventType): EventRow[] {
    const rows = this.#db.all<EventRow>(
      "SELECT number, type, created_at, data FROM events WHERE job_id = ? AND number > ? " +
        `${type ? "AND type = ?" : ""} ORDER BY number LIMIT ?`,
      ...(type ? [jobId, after, type, limit] : [jobId, after, limit]),
    );
    const held = (this.#held.get(jobId)?.events ?? [])
      .filter((event) => event.number > after && (type === undefined || event.type === type));
    return [...rows, ...held].slice(0, limit);
  }

  /**
   * Removes a job that has ended: its row, events and whatever in its folder nothing else names. Files,
   * partitions and adapters that it made have ids of their own and stay, without a job.
   */
  async removeJob({ id }: JobRow): Promise<void> {
    this.durably(() => {
      for (const table of ["partitions", "adapters"]) {
        this.#db.run(`UPDATE ${table} SET job_id = NULL WHERE job_id = ?`, id);
      }
      this.#db.run("DELETE FROM events WHERE job_id = ?", id);
      this.#db.run("DELETE FROM jobs WHERE id = ?", id);
    });
    this.#held.delete(id);
    await removeUnnamed(this.folder, `jobs/${id}`, this.#namedPaths());
  }

  // Partitions and adapters

  /** Call it inside `durably`. */
  addPartition(row: Omit<PartitionRow, "created_at">): PartitionRow {
    const whole = { ...row, created_at: nowSeconds() };
    this.#db.insert("partitions", whole);
    return whole;
  }

  partition(id: string): PartitionRow | null {
    return this.#get("partitions", id);
  }

  partitions(query: PageQuery): Page<PartitionRow> {
    return this.#db.page("partitions", query);
  }

  /** Removes the row and the folder; what was made from it stays, and names it no more. */
  async removePartition(row: PartitionRow): Promise<void> {
    await this.#remove(row.folder, () => {
      this.#db.run("UPDATE partitions SET source_id = NULL WHERE source_id = ?", row.id);
      this.#db.run("UPDATE adapters SET partition_id = NULL WHERE partition_id = ?", row.id);
      this.#db.run("DELETE FROM partitions WHERE id = ?", row.id);
    });
  }

  /** Call it inside `durably`. */
  addAdapter(row: Omit<AdapterRow, "created_at">): AdapterRow {
    const whole = { ...row, created_at: nowSeconds() };
    this.#db.insert("adapters", whole);
    return whole;
  }

  adapter(id: string): AdapterRow | null {
    return this.#get("adapters", id);
  }

  /** The adapter behind a trained model's name, e.g. `lorapar-tiny:first`. */
  adapterOfModel(model: string): AdapterRow | null {
    return this.#db.get("SELECT * FROM adapters WHERE model = ?", model);
  }

  adapters(query: PageQuery): Page<AdapterRow> {
    return this.#db.page("adapters", query);
  }

  /** Removes the row and the folder. */
  async removeAdapter(row: AdapterRow): Promise<void> {
    await this.#remove(row.folder, () => this.#db.run("DELETE FROM adapters WHERE id = ?", row.id));
  }
}
