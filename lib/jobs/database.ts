// One SQLite file, held by one process: opening and locking it, transactions, and rows as objects.
// A transaction that a client is told of is synced to the disk before it returns (`durable`); a job's
// events are not, so that a training step never waits for the disk (a crash of the process loses none
// of them either way). Column and table names are the program's own, never a request's; values are bound.

import { DatabaseSync, type SQLInputValue } from "node:sqlite";
import { InvalidRequest } from "../errors.ts";
import type { Page, PageQuery } from "./rows.ts";
import { migrate } from "./schema.ts";

export type Table = "files" | "jobs" | "events" | "partitions" | "adapters";
type Row = Record<string, SQLInputValue>;

/** Columns that hold JSON text. */
const jsonColumns = new Set(["progress", "request", "result", "error", "data", "report", "phases"]);

function decode<T>(row: object): T {
  const out: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(row)) {
    if (name === "seq") continue;
    out[name] = jsonColumns.has(name) && typeof value === "string" ? JSON.parse(value) : value;
  }
  return out as T;
}

function encode(row: object): Row {
  return Object.fromEntries(
    Object.entries(row).map(([name, value]) => [
      name,
      jsonColumns.has(name) && value !== null ? JSON.stringify(value) : value,
    ]),
  );
}

/** SQL that rows must meet, and the values of its question marks. */
export type Condition = [sql: string, ...values: SQLInputValue[]];

/** That each of these columns has its value; one that is undefined is not asked for. */
export function equal(columns: Record<string, SQLInputValue | undefined>): Condition[] {
  return Object.entries(columns).flatMap(([name, value]): Condition[] =>
    value === undefined ? [] : [[`${name} = ?`, value]]
  );
}

export class Database {
  readonly #db: DatabaseSync;

  /**
   * Opens or makes lorapar.sqlite in `folder` and keeps it locked until `close`.
   * @throws {Error} when another process holds it or a newer program wrote it.
   */
  constructor(folder: string) {
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
      if (!(error instanceof Error && /locked/.test(error.message))) throw error;
      throw new Error(
        `Cannot open the store in ${folder}: another lorapar is using it. ` +
          "Stop that one, or set LORAPAR_DATA to another folder.",
      );
    }
  }

  close(): void {
    this.#db.close();
  }

  /** Runs `change` as a whole or not at all; `durable` has it on the disk when this returns. */
  transaction<T>(change: () => T, durable: boolean): T {
    // Statements one by one: what `exec` throws has no result code to tell a full disk by.
    this.run(`PRAGMA synchronous = ${durable ? "FULL" : "NORMAL"}`);
    this.run("BEGIN IMMEDIATE");
    try {
      const value = change();
      this.run("COMMIT");
      return value;
    } catch (error) {
      // After some failures, a full disk among them, SQLite has rolled back by itself.
      if (this.#db.isTransaction) this.run("ROLLBACK");
      throw error;
    }
  }

  run(sql: string, ...values: SQLInputValue[]): void {
    this.#db.prepare(sql).run(...values);
  }

  /** The first row, or null. */
  get<T>(sql: string, ...values: SQLInputValue[]): T | null {
    const row = this.#db.prepare(sql).get(...values);
    return row ? decode<T>(row) : null;
  }

  all<T>(sql: string, ...values: SQLInputValue[]): T[] {
    return this.#db.prepare(sql).all(...values).map((row) => decode<T>(row));
  }

  insert(table: Table, row: object): void {
    const columns = encode(row);
    const names = Object.keys(columns);
    this.run(
      `INSERT INTO ${table} (${names.join(", ")}) VALUES (${names.map(() => "?").join(", ")})`,
      ...Object.values(columns),
    );
  }

  update(table: Table, id: string, change: object): void {
    const columns = encode(change);
    const names = Object.keys(columns);
    if (names.length === 0) return;
    this.run(
      `UPDATE ${table} SET ${names.map((name) => `${name} = ?`).join(", ")} WHERE id = ?`,
      ...Object.values(columns),
      id,
    );
  }

  /** A page of a table in the order of insertion. @throws {InvalidRequest} when `after` has no row. */
  page<T>(
    table: Table,
    { after, limit, order }: PageQuery,
    conditions: Condition[] = [],
  ): Page<T> {
    const all = [...conditions];
    if (after !== undefined) {
      const row = this.get<{ place: number }>(
        `SELECT seq AS place FROM ${table} WHERE id = ?`,
        after,
      );
      if (!row) {
        throw new InvalidRequest(
          `Cannot list ${table} after "${after}": there is no such id in the list.`,
          "after",
        );
      }
      all.push([`seq ${order === "asc" ? ">" : "<"} ?`, row.place]);
    }
    const where = all.map(([sql]) => `(${sql})`).join(" AND ");
    const rows = this.all<T>(
      `SELECT * FROM ${table} ${where && `WHERE ${where}`} ORDER BY seq ${order} LIMIT ?`,
      ...all.flatMap(([, ...values]) => values),
      limit + 1,
    );
    return { data: rows.slice(0, limit), has_more: rows.length > limit };
  }
}
