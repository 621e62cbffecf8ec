// The end of the decoder, in chunks of rows so that logits (rows, V) never exist whole:
// final norm -> LM head -> cross-entropy, and, when a derivative is asked for, back again to dx.

import { crossEntropy, crossEntropyBackward } from "../../kernels/cross_entropy.ts";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import { rows, type Tensor } from "../../kernels/gpu/tensor.ts";
import { linear, linearBackward } from "../../kernels/matmul.ts";
import { rmsNorm, rmsNormBackward } from "../../kernels/rms_norm.ts";
import { gatherRows, scatterRows } from "../../kernels/rows.ts";
import type { Decoder } from "./decoder.ts";

/** Bytes of logits that exist at once. */
const chunkBytes = 32 * 2 ** 20;
/** A multiple of this many rows begins on any adapter's binding alignment. */
const rowStep = 64;

/** Rows of logits in a chunk, for a vocabulary of V. */
export function headChunkRows(V: number): number {
  return Math.max(rowStep, Math.floor(chunkBytes / (4 * V) / rowStep) * rowStep);
}

/** The scored rows of a pass: which, and what they should predict. */
export interface ScoredRows {
  /** (M) u32, rows of x. */
  numbers: Tensor;
  /** (M) u32 token ids. */
  targets: Tensor;
}

/**
 * values (M, 4) f32 of crossEntropy for the scored rows of x (T, C), at this temperature.
 * With `backward`, also dx (T, C): `derive` fills dlogp (M) for the chunk's rows from values, after
 * the chunk's values are there.
 */
export function head(
  gpu: Gpu,
  decoder: Decoder,
  { x, scored, values }: { x: Tensor; scored: ScoredRows; values: Tensor },
  { temperature = 1, backward }: {
    temperature?: number;
    backward?: { dx: Tensor; dlogp: Tensor; derive?: (first: number, count: number) => void };
  } = {},
): void {
  const { hiddenSize: C, vocabSize: vocabulary, rmsNormEps } = decoder.config;
  const V = decoder.head.shape[0];
  const M = scored.numbers.shape[0];
  const picked = gpu.tensor("head.picked", [M, C]);
  gatherRows(gpu, { x, numbers: scored.numbers, y: picked });
  const normed = gpu.tensor("head.normed", [M, C]);
  rmsNorm(gpu, { x: picked, weight: decoder.norm, y: normed }, rmsNormEps);
  const dNormed = backward ? gpu.tensor("head.dnormed", [M, C]) : null;

  const chunk = Math.min(headChunkRows(V), M);
  const logits = gpu.tensor("head.logits", [chunk, V]);
  for (let first = 0; first < M; first += chunk) {
    const count = Math.min(chunk, M - first);
    const part = (tensor: Tensor) => rows(tensor, first, count, 1);
    const chunkLogits = rows(logits, 0, count);
    linear(gpu, { x: part(normed), weight: decoder.head, y: chunkLogits });
    const tensors = {
      logits: chunkLogits,
      targets: part(scored.targets),
      values: part(values),
    };
    crossEntropy(gpu, tensors, { vocabulary, temperature });
    if (!backward) continue;
    backward.derive?.(first, count);
    const dlogp = part(backward.dlogp);
    crossEntropyBackward(gpu, { ...tensors, dlogp }, { vocabulary, temperature });
    linearBackward(gpu, { dy: chunkLogits, weight: decoder.head, dx: part(dNormed!) });
    gpu.flush();
  }
  gpu.release(logits, normed);
  if (backward) {
    const dPicked = gpu.tensor("head.dpicked", [M, C]);
    const { dx } = backward;
    rmsNormBackward(
      gpu,
      { x: picked, weight: decoder.norm, dy: dNormed!, dx: dPicked },
      rmsNormEps,
    );
    gpu.clear(dx);
    scatterRows(gpu, { x: dPicked, numbers: scored.numbers, y: dx });
    gpu.release(dPicked, dNormed!);
  }
  gpu.release(picked);
}

/** logits (M, V) of the last block's output x (M, C), for generation; the caller releases them. */
export function logitsOf(gpu: Gpu, decoder: Decoder, x: Tensor): Tensor {
  const normed = gpu.tensor("head.normed", x.shape);
  rmsNorm(gpu, { x, weight: decoder.norm, y: normed }, decoder.config.rmsNormEps);
  const logits = gpu.tensor("head.logits", [x.shape[0], decoder.head.shape[0]]);
  linear(gpu, { x: normed, weight: decoder.head, y: logits });
  gpu.release(normed);
  return logits;
}
