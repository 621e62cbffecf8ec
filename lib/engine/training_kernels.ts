import { trainingChecks } from "../../kernels/check/ops.ts";
import { requireOps } from "../../kernels/check/self_check.ts";
import type { GpuContext } from "./context.ts";

/** Makes sure that what partitions and trains computes rightly on the device. @throws {GpuError} */
export function requireTrainingKernels({ gpu, turns }: GpuContext): Promise<void> {
  return turns.take(() => requireOps(gpu, trainingChecks));
}
