// The store's rows as the rest of the server sees them: snake_case like the columns and the API,
// JSON columns parsed. Paths and folders are relative to the data folder and never leave the server.

import type { TrainResult } from "../engine/messages.ts";

/** Stored and not looked at yet; readable as a data set; or not, and status_details says why. */
export const fileStatuses = ["uploaded", "processed", "error"] as const;
export type FileStatus = typeof fileStatuses[number];

export interface FileRow {
  id: string;
  bytes: number;
  /** Unix seconds, as every time here. */
  created_at: number;
  filename: string;
  purpose: string;
  path: string;
  status: FileStatus;
  status_details: string | null;
}

export const jobKinds = ["classify", "partition", "train", "evaluate"] as const;
export type JobKind = typeof jobKinds[number];

export const jobStatuses = [
  "queued",
  "running",
  "paused",
  "succeeded",
  "failed",
  "cancelled",
] as const;
export type JobStatus = typeof jobStatuses[number];

/** An error as HTTP bodies and failed jobs carry it. */
export interface ErrorObject {
  message: string;
  type: string;
  param: string | null;
  code: string | null;
}

export interface JobProgress {
  phase: string;
  done: number;
  total: number;
  unit: string;
  eta_s: number | null;
}

export interface JobRow {
  id: string;
  kind: JobKind;
  status: JobStatus;
  created_at: number;
  started_at: number | null;
  finished_at: number | null;
  progress: JobProgress | null;
  request: unknown;
  result: unknown;
  error: ErrorObject | null;
}
export type JobChange = Partial<
  Pick<JobRow, "status" | "started_at" | "finished_at" | "progress" | "result" | "error">
>;

export const eventTypes = ["status", "progress", "metrics", "sample", "log"] as const;
export type EventType = typeof eventTypes[number];

export interface EventRow {
  /** From 1 in each job. */
  number: number;
  type: EventType;
  created_at: number;
  data: Record<string, unknown>;
}

export interface PartitionRow {
  id: string;
  created_at: number;
  /** The job that made it; null for a rethresholded one. */
  job_id: string | null;
  /** The partition whose importance it reuses. */
  source_id: string | null;
  model: string;
  folder: string;
  /** What the engine reported: counts, fractions, thresholds, by_tensor. */
  report: Record<string, unknown>;
}

export interface AdapterRow {
  id: string;
  created_at: number;
  job_id: string | null;
  /** The id of the base model. */
  base: string;
  /** The trained model's name, `<base>:<suffix>`. */
  model: string;
  partition_id: string | null;
  folder: string;
  phases: TrainResult["phases"];
}

export interface PageQuery {
  after?: string;
  limit: number;
  order: "asc" | "desc";
  /** Files only. */
  purpose?: string;
  /** Jobs only. */
  kind?: JobKind;
  status?: JobStatus;
}

export interface Page<T> {
  data: T[];
  has_more: boolean;
}
