// Cuts stored importances anew: another theta, alpha or beta without another backward.

import { rethreshold as cutAgain } from "../../par/partition_file.ts";
import type { GpuContext } from "../context.ts";
import type { RethresholdTask } from "../messages.ts";

export function rethreshold(
  { gpu, turns }: GpuContext,
  { request, source, outputFolder }: RethresholdTask,
): Promise<Record<string, unknown>> {
  return turns.take(() => cutAgain(gpu, source.folder, request, outputFolder));
}
