// The tables of the store, as numbered steps; `PRAGMA user_version` counts the steps taken.
// Paths are relative to the data folder, times are Unix seconds unless their name says otherwise, JSON
// columns hold JSON text.

import type { DatabaseSync } from "node:sqlite";

const steps = [
  `
  CREATE TABLE files (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    bytes INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    filename TEXT NOT NULL,
    purpose TEXT NOT NULL,
    path TEXT NOT NULL UNIQUE
  ) STRICT;

  CREATE TABLE jobs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    status TEXT NOT NULL
      CHECK (status IN ('queued', 'running', 'paused', 'succeeded', 'failed', 'cancelled')),
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    finished_at INTEGER,
    progress TEXT,
    request TEXT NOT NULL,
    result TEXT,
    error TEXT
  ) STRICT;
  CREATE INDEX jobs_by_status ON jobs (status);

  CREATE TABLE events (
    job_id TEXT NOT NULL REFERENCES jobs (id),
    number INTEGER NOT NULL,
    type TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (job_id, number)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE partitions (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    job_id TEXT REFERENCES jobs (id),
    source_id TEXT,
    model TEXT NOT NULL,
    folder TEXT NOT NULL UNIQUE,
    report TEXT NOT NULL
  ) STRICT;

  CREATE TABLE adapters (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    job_id TEXT REFERENCES jobs (id),
    base TEXT NOT NULL,
    model TEXT NOT NULL UNIQUE,
    partition_id TEXT,
    folder TEXT NOT NULL UNIQUE,
    phases TEXT NOT NULL
  ) STRICT;
  `,
  // Files that were there before say "processed", as they did; a store that has rows is as old as any.
  `
  ALTER TABLE files ADD COLUMN status TEXT NOT NULL DEFAULT 'processed'
    CHECK (status IN ('uploaded', 'processed', 'error'));
  ALTER TABLE files ADD COLUMN status_details TEXT;

  CREATE TABLE store (made_at_ms INTEGER NOT NULL) STRICT;
  INSERT INTO store SELECT CASE
    WHEN EXISTS (SELECT * FROM files) OR EXISTS (SELECT * FROM jobs) THEN 0
    ELSE CAST(1000 * unixepoch('subsec') AS INTEGER) END;
  `,
];

/**
 * Brings the tables to the newest version, in one transaction a step.
 * @throws {Error} when a newer program wrote the store.
 */
export function migrate(db: DatabaseSync): void {
  const { user_version: found } = db.prepare("PRAGMA user_version").get() as {
    user_version: number;
  };
  if (found > steps.length) {
    throw new Error(
      `Cannot open the store: its version is ${found}, this program knows up to ${steps.length}. ` +
        "Run the newer lorapar, or set LORAPAR_DATA to another folder.",
    );
  }
  for (let version = found; version < steps.length; version++) {
    db.exec(`BEGIN IMMEDIATE; ${steps[version]} PRAGMA user_version = ${version + 1}; COMMIT;`);
  }
}
