// The checks by what needs them: any model, generation, training and partition, and weights by type.

import type { Gpu } from "../gpu/gpu.ts";
import { type MatrixSizes, suitsTextures, textureSizes, type WeightType } from "../weight.ts";
import { attentionBackwardCheck, attentionCheck, attentionDecodeCheck } from "./attention.ts";
import { dropoutCheck, elementwiseChecks, embeddingCheck } from "./elementwise.ts";
import { bufferedMatmulCheck, matmulCheck } from "./matmul.ts";
import { sampleCheck } from "./sampling.ts";
import { selectionChecks } from "./selection.ts";
import { crossEntropyCheck, gradientChecks, loraCheck } from "./training.ts";
import type { OpCheck } from "./trial.ts";
import { weightLoadsCheck } from "./weight_loads.ts";

/** What a forward pass to log-probabilities needs besides its weights. */
export const modelChecks: readonly OpCheck[] = [
  ...elementwiseChecks,
  attentionCheck,
  loraCheck,
  crossEntropyCheck,
];

/** What reads weights of a type. */
export const weightChecks = (dtype: WeightType): readonly OpCheck[] => [
  weightLoadsCheck,
  embeddingCheck(dtype),
  matmulCheck(dtype),
];

/** What reads this weight here. */
export function checksOfWeight(gpu: Gpu, matrix: MatrixSizes): readonly OpCheck[] {
  const checks = weightChecks(matrix.dtype);
  if (!suitsTextures(gpu) || textureSizes(gpu, matrix)) return checks;
  return [...checks, bufferedMatmulCheck(matrix.dtype)];
}

/** What generation adds, for so many query heads to one of keys. */
export const generationChecks = (group: number): readonly OpCheck[] => [
  attentionDecodeCheck(group),
  sampleCheck,
];

/** What the partition and training add. */
export const trainingChecks: readonly OpCheck[] = [
  attentionBackwardCheck,
  dropoutCheck,
  ...gradientChecks,
  ...selectionChecks,
];
