// The store: rows in one SQLite file, files beside it. Everything the server acknowledged is here,
// so a restart still has it.
//   <data>/lorapar.sqlite   files, jobs, events, partitions, adapters
//   <data>/uploads/         uploaded files, named by their id
//   <data>/jobs/<id>/       what a job writes;  <data>/partitions/<id>/ a rethresholded partition
// Rows that a client was told of are committed with a sync of the disk; a job's events without, so
// that a training step never waits for it (a crash of the process loses none of them either way).

import { DatabaseSync, type SQLInputValue } from "node:sqlite";
import { InvalidRequest } from "../errors.ts";
import { removeIfThere, removePartial, writeDurably } from "./disk.ts";
import { newId } from "./ids.ts";
import type {
  AdapterRow,
  EventRow,
  EventType,
  FileRow,
  JobChange,
  JobRow,
  Page,
  PageQuery,
  PartitionRow,
} from "./rows.ts";
import { migrate } from "./schema.ts";

type Table = "files" | "jobs" | "partitions" | "adapters";
type Row = Record<string, SQLInputValue>;

/** Columns that hold JSON text. */
const jsonColumns = new Set(["progress", "request", "result", "error", "data", "report", "phases"]);

function decode(row: Row): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(row)) {
    if (name === "seq") continue;
    out[name] = jsonColumns.has(name) && typeof value === "string" ? JSON.parse(value) : value;
  }
  return out;
}

function encode(row: object): Row {
  return Object.fromEntries(
    Object.entries(row).map(([name, value]) => [
      name,
      jsonColumns.has(name) && value !== null ? JSON.stringify(value) : value,
    ]),
  );
}

/** Seconds since 1970, whole. */
export function nowSeconds(): number {
  return Math.floor(Date.now() / 1000);
}

/** What a job that the server's stop cut off says. */
export const interruptedError = {
  message: "The server stopped before this job ended. Send the same request again to start it " +
    "anew; files, partitions and adapters that were ready are kept.",
  type: "server_error",
  param: null,
  code: "interrupted",
};

/** The store in one data folder; one process at a time may hold it. */
export class Store {
  readonly #db: DatabaseSync;

  /**
   * Opens or makes the store and marks jobs that a stop cut off as failed.
   * @throws {Error} when another process holds it or a newer program wrote it.
   */
  constructor(readonly folder: string) {
    for (const name of ["uploads", "jobs", "partitions"]) {
      Deno.mkdirSync(`${folder}/${name}`, { recursive: true, mode: 0o700 });
    }
    this.#db = new DatabaseSync(`${folder}/lorapar.sqlite`, { timeout: 0 });
    try {
      // The lock of the first transaction stays until the close: two servers never share a store.
      this.#db.exec(
        "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL;" +
          "PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON; BEGIN IMMEDIATE; COMMIT;",
      );
      migrate(this.#db);
    } catch (error) {
      this.#db.close();
      if (error instanceof Error && /locked/.test(error.message)) {
        throw new Error(
          `Cannot open the store in ${folder}: another lorapar is using it. ` +
            "Stop that one, or set LORAPAR_DATA to another folder.",
        );
      }
      throw error;
    }
    removePartial(`${folder}/uploads`);
    this.#markInterrupted();
  }

  close(): void {
    this.#db.close();
  }

  /** The absolute or working-directory path of a path the store keeps. */
  resolve(path: string): string {
    return `${this.folder}/${path}`;
  }

  #markInterrupted(): void {
    this.durably(() => {
      const cut = this.#db
        .prepare("SELECT id FROM jobs WHERE status IN ('queued', 'running', 'paused')").all();
      for (const { id } of cut as { id: string }[]) {
        this.endJob(id, "failed", null, interruptedError);
      }
    });
  }

  /** Runs `change` in one transaction that is on the disk when this returns. */
  durably<T>(change: () => T): T {
    this.#db.exec("PRAGMA synchronous = FULL; BEGIN IMMEDIATE");
    try {
      const value = change();
      this.#db.exec("COMMIT");
      return value;
    } catch (error) {
      this.#db.exec("ROLLBACK");
      throw error;
    } finally {
      this.#db.exec("PRAGMA synchronous = NORMAL");
    }
  }

  #insert(table: Table | "events", row: object): void {
    const columns = encode(row);
    const names = Object.keys(columns);
    this.#db.prepare(
      `INSERT INTO ${table} (${names.join(", ")}) VALUES (${names.map(() => "?").join(", ")})`,
    ).run(...Object.values(columns));
  }

  #get<T>(table: Table, id: string): T | null {
    const row = this.#db.prepare(`SELECT * FROM ${table} WHERE id = ?`).get(id);
    return row ? decode(row as Row) as T : null;
  }

  #page<T>(table: Table, query: PageQuery): Page<T> {
    let bound: number | null = null;
    if (query.after !== undefined) {
      const row = this.#db.prepare(`SELECT seq FROM ${table} WHERE id = ?`).get(query.after);
      if (!row) {
        throw new InvalidRequest(
          `Cannot list ${table} after "${query.after}": there is no such id in the list.`,
          "after",
        );
      }
      bound = (row as { seq: number }).seq;
    }
    const conditions = [
      ...(bound === null ? [] : [`seq ${query.order === "asc" ? ">" : "<"} ${bound}`]),
      ...(query.purpose === undefined ? [] : ["purpose = ?"]),
    ];
    const rows = this.#db.prepare(
      `SELECT * FROM ${table} ${conditions.length ? `WHERE ${conditions.join(" AND ")}` : ""} ` +
        `ORDER BY seq ${query.order} LIMIT ?`,
    ).all(...(query.purpose === undefined ? [] : [query.purpose]), query.limit + 1) as Row[];
    return {
      data: rows.slice(0, query.limit).map((row) => decode(row) as T),
      has_more: rows.length > query.limit,
    };
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

  /** Adds the row of a file that is on disk already. */
  addFile(file: Pick<FileRow, "id" | "bytes" | "filename" | "path" | "purpose">): FileRow {
    const row: FileRow = { ...file, created_at: nowSeconds() };
    this.durably(() => this.#insert("files", row));
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
    };
    this.#insert("files", row);
    return row;
  }

  file(id: string): FileRow | null {
    return this.#get("files", id);
  }

  files(query: PageQuery): Page<FileRow> {
    return this.#page("files", query);
  }

  /** Removes the row, then the bytes. */
  async removeFile(row: FileRow): Promise<void> {
    this.durably(() => this.#db.prepare("DELETE FROM files WHERE id = ?").run(row.id));
    await removeIfThere(this.resolve(row.path));
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
      this.#insert("jobs", row);
      this.addEvent(id, "status", { status: "queued" });
    });
    return row;
  }

  job(id: string): JobRow | null {
    return this.#get("jobs", id);
  }

  jobs(query: PageQuery): Page<JobRow> {
    return this.#page("jobs", query);
  }

  /** Changes columns of a job; a status also becomes an event. */
  updateJob(id: string, change: JobChange): void {
    const columns = encode(change);
    const names = Object.keys(columns);
    this.#db.prepare(
      `UPDATE jobs SET ${names.map((name) => `${name} = ?`).join(", ")} WHERE id = ?`,
    )
      .run(...Object.values(columns), id);
    if (change.status) {
      this.addEvent(id, "status", { status: change.status, error: change.error ?? null });
    }
  }

  /** Ends a job; call it inside `durably`. */
  endJob(
    id: string,
    status: "succeeded" | "failed" | "cancelled",
    result: unknown,
    error: JobRow["error"],
  ): void {
    this.updateJob(id, { status, finished_at: nowSeconds(), result, error });
  }

  /** Appends an event and answers its number, counted from 1 in each job. */
  addEvent(jobId: string, type: EventType, data: unknown): number {
    const { number } = this.#db.prepare(
      "INSERT INTO events (job_id, number, type, created_at, data) " +
        "SELECT ?1, 1 + coalesce(max(number), 0), ?2, ?3, ?4 FROM events WHERE job_id = ?1 " +
        "RETURNING number",
    ).get(jobId, type, nowSeconds(), JSON.stringify(data)) as { number: number };
    return number;
  }

  /** Events of a job numbered past `after`, in order; of one type when it is given. */
  events(jobId: string, after: number, limit: number, type?: EventType): EventRow[] {
    const rows = this.#db.prepare(
      "SELECT number, type, created_at, data FROM events WHERE job_id = ? AND number > ? " +
        `${type ? "AND type = ?" : ""} ORDER BY number LIMIT ?`,
    ).all(...(type ? [jobId, after, type, limit] : [jobId, after, limit])) as Row[];
    return rows.map((row) => decode(row) as unknown as EventRow);
  }

  // Partitions and adapters

  /** Call it inside `durably`. */
  addPartition(row: Omit<PartitionRow, "created_at">): PartitionRow {
    const whole = { ...row, created_at: nowSeconds() };
    this.#insert("partitions", whole);
    return whole;
  }

  partition(id: string): PartitionRow | null {
    return this.#get("partitions", id);
  }

  partitions(query: PageQuery): Page<PartitionRow> {
    return this.#page("partitions", query);
  }

  /** Call it inside `durably`. */
  addAdapter(row: Omit<AdapterRow, "created_at">): AdapterRow {
    const whole = { ...row, created_at: nowSeconds() };
    this.#insert("adapters", whole);
    return whole;
  }

  adapter(id: string): AdapterRow | null {
    return this.#get("adapters", id);
  }

  /** The adapter behind a trained model's name, e.g. `lorapar-tiny:first`. */
  adapterOfModel(model: string): AdapterRow | null {
    const row = this.#db.prepare("SELECT * FROM adapters WHERE model = ?").get(model);
    return row ? decode(row as Row) as unknown as AdapterRow : null;
  }

  adapters(query: PageQuery): Page<AdapterRow> {
    return this.#page("adapters", query);
  }

  /** Removes the row, then the folder. */
  async removeAdapter(row: AdapterRow): Promise<void> {
    this.durably(() => this.#db.prepare("DELETE FROM adapters WHERE id = ?").run(row.id));
    await removeIfThere(this.resolve(row.folder));
  }
}
