// Cuts stored importances anew: another theta, alpha or beta without another backward.

import { rethreshold as cutAgain } from "../../par/partition_file.ts";
import type { GpuContext } from "../context.ts";
import type { RethresholdTask } from "../messages.ts";
import { requireTrainingKernels } from "../training_kernels.ts";

export async function rethreshold(
  context: GpuContext,
  { request, source, outputFolder }: RethresholdTask,
): Promise<Record<string, unknown>> {
  await requireTrainingKernels(context);
  const { gpu, turns } = context;
  return await turns.take(() => cutAgain(gpu, source.folder, request, outputFolder));
}
