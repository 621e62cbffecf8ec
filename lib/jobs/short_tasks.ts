// Tasks that are answered at once instead of queued: a partition from stored importance, and the
// plan of a training. They take turns with the running job on the engine.

import type { Engine } from "../engine/engine.ts";
import type { TrainPlan } from "../engine/messages.ts";
import type { RethresholdSettings } from "../par/settings.ts";
import type { TrainSettings } from "../train/settings.ts";
import { removeIfThere, syncTree } from "./disk.ts";
import { newId } from "./ids.ts";
import { type PlanDeps, planRethreshold, planTrain } from "./plan.ts";
import { registerPartition } from "./results.ts";
import type { PartitionRow } from "./rows.ts";

/** A new partition at another theta, alpha and beta, without another backward pass. */
export async function rethreshold(
  deps: PlanDeps & { engine: Engine },
  source: PartitionRow,
  request: RethresholdSettings,
  signal: AbortSignal,
): Promise<PartitionRow> {
  const { store, engine } = deps;
  const id = newId("part");
  const folder = `partitions/${id}`;
  const reference = { id: source.id, folder: store.resolve(source.folder) };
  const task = planRethreshold(reference, request).task(store.resolve(folder));
  await Deno.mkdir(task.outputFolder, { mode: 0o700 });
  try {
    const report = await engine.run(task, undefined, signal);
    await syncTree(task.outputFolder);
    const { model } = source;
    // It may have been deleted meanwhile.
    const sourceId = store.partition(source.id) && source.id;
    return store.durably(() =>
      registerPartition(store, { jobId: null, sourceId, model, folder, report }, id)
    );
  } catch (error) {
    await removeIfThere(task.outputFolder);
    throw error;
  }
}

/** What a training would take: elements, memory, steps, time. */
export async function planOfTraining(
  deps: PlanDeps & { engine: Engine },
  request: TrainSettings,
  signal: AbortSignal,
): Promise<TrainPlan> {
  const plan = await planTrain(deps, request, true);
  const task = plan.task(deps.store.resolve(`jobs/${newId("job")}`));
  try {
    return await deps.engine.run(task, undefined, signal) as TrainPlan;
  } finally {
    await removeIfThere(task.outputFolder);
  }
}
