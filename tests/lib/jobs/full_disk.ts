// A store that can be filled up: its SQLite file may not grow any more, and every change of a row needs
// a page that is not there, so SQLite itself answers SQLITE_FULL.

import { DatabaseSync } from "node:sqlite";

export interface FullDisk {
  /** The next write of any row fails as on a full disk. */
  fill(): void;
  /** The file may not grow; rows that find room in its pages are written. */
  stopGrowth(): void;
  makeRoom(): void;
}

const tables = ["files", "jobs", "events", "partitions", "adapters"];
const triggers = tables.flatMap((table) =>
  ["INSERT", "UPDATE", "DELETE"].map((verb) => ({ name: `no_room_${table}_${verb}`, table, verb }))
);

/** Makes what opens exactly one store, and answers it with the means to fill that store up. */
export async function withFullDisk<T>(open: () => T | Promise<T>): Promise<[T, FullDisk]> {
  const { exec } = DatabaseSync.prototype;
  let db: DatabaseSync | undefined;
  DatabaseSync.prototype.exec = function (sql: string) {
    db = this;
    return exec.call(this, sql);
  };
  let made: T;
  try {
    made = await open();
  } finally {
    DatabaseSync.prototype.exec = exec;
  }
  const run = (sql: string) => db!.exec(sql);
  const stopGrowth = () => {
    const { page_count } = db!.prepare("PRAGMA page_count").get() as { page_count: number };
    run(`PRAGMA max_page_count = ${page_count}`);
  };
  return [made, {
    stopGrowth,
    fill() {
      run("CREATE TABLE IF NOT EXISTS ballast (bytes BLOB)");
      for (const { name, table, verb } of triggers) {
        run(
          `CREATE TEMP TRIGGER ${name} BEFORE ${verb} ON ${table} ` +
            "BEGIN INSERT INTO ballast VALUES (zeroblob(1000000)); END",
        );
      }
      stopGrowth();
    },
    makeRoom() {
      for (const { name } of triggers) run(`DROP TRIGGER IF EXISTS ${name}`);
      run("PRAGMA max_page_count = 1000000");
    },
  }];
}
