// What a job's end leaves behind: rows for the files, the partition and the adapter it wrote, and
// the result that the API shows. Runs inside the transaction that marks the job as succeeded.

import type {
  ClassifyResult,
  EvaluateResult,
  Task,
  TaskResults,
  TrainResult,
  TrainTask,
} from "../engine/messages.ts";
import { newId } from "./ids.ts";
import type { Store } from "./store.ts";

/** The partition's row; `folder` is relative to the data folder. */
export function registerPartition(
  store: Store,
  row: {
    jobId: string | null;
    sourceId: string | null;
    model: string;
    folder: string;
    report: Record<string, unknown>;
  },
  id = newId("part"),
) {
  return store.addPartition({
    id,
    job_id: row.jobId,
    source_id: row.sourceId,
    model: row.model,
    folder: row.folder,
    report: row.report,
  });
}

function registerTraining(store: Store, jobId: string, task: TrainTask, result: TrainResult) {
  const { request } = task;
  const partition = result.partitionFolder === null ? null : registerPartition(store, {
    jobId,
    sourceId: null,
    model: task.model.baseId,
    folder: `jobs/${jobId}/${result.partitionFolder}`,
    report: JSON.parse(
      Deno.readTextFileSync(`${task.outputFolder}/${result.partitionFolder}/partition.json`),
    ),
  });
  const id = newId("adapter");
  const adapter = store.addAdapter({
    id,
    job_id: jobId,
    base: task.model.baseId,
    model: `${task.model.baseId}:${request.suffix ?? id}`,
    partition_id: partition?.id ?? task.partition?.id ?? null,
    folder: `jobs/${jobId}/${result.adapterFolder}`,
    phases: result.phases,
  });
  return {
    adapter: adapter.id,
    model: adapter.model,
    partition: adapter.partition_id,
    classified_file: result.classifiedFile === null
      ? null
      : store.addJobFile(jobId, result.classifiedFile, "classified").id,
    phases: result.phases,
    evaluations: result.evaluations,
    inactive_elements_changed: result.inactive_elements_changed,
  };
}

/** Registers what `task` made and answers the job's result. */
export function registerResult(
  store: Store,
  jobId: string,
  task: Task,
  result: TaskResults[keyof TaskResults],
): Record<string, unknown> {
  switch (task.kind) {
    case "classify": {
      const { file, ...rest } = result as ClassifyResult;
      return { file: store.addJobFile(jobId, file, "classified").id, ...rest };
    }
    case "partition": {
      const report = result as TaskResults["partition"];
      const { model } = task.request;
      return {
        partition: registerPartition(store, {
          jobId,
          sourceId: null,
          model,
          folder: `jobs/${jobId}`,
          report,
        }).id,
      };
    }
    case "train":
      return registerTraining(store, jobId, task, result as TrainResult);
    case "evaluate": {
      const { file, ...rest } = result as EvaluateResult;
      return { ...rest, file: store.addJobFile(jobId, file, "answers").id };
    }
    default:
      throw new Error(`Cannot register a ${task.kind} as a job: it is answered at once.`);
  }
}
