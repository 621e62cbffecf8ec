// A decoder of the Llama family on the GPU: frozen weights as stored, norms and biases as f32.
// Loading reads one tensor at a time, so the file never lies whole in memory.

import { checksOfWeight, modelChecks } from "../../kernels/check/ops.ts";
import { requireOps } from "../../kernels/check/self_check.ts";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import type { Tensor } from "../../kernels/gpu/tensor.ts";
import { tuneMatmul } from "../../kernels/matmul.ts";
import { ropeTable } from "../../kernels/rope.ts";
import { destroyWeight, uploadWeight, type Weight, type WeightUse } from "../../kernels/weight.ts";
import { GpuError } from "../errors.ts";
import { type ModelConfig, type Projection, projectionPath, projections } from "./config.ts";
import { toFloat32 } from "./floats.ts";
import type { ModelWeights, StoredTensor } from "./source.ts";

export interface Block {
  inputNorm: Tensor;
  postNorm: Tensor;
  weights: Record<Projection, Weight>;
  /** q, k and v only, where the architecture has them. */
  biases: Partial<Record<Projection, Tensor>>;
  /** (D) each, Qwen 3. */
  qNorm: Tensor | null;
  kNorm: Tensor | null;
}

export interface Decoder {
  config: ModelConfig;
  /** (V, C), rows padded with zeros to a multiple of 4. */
  embedding: Weight;
  blocks: Block[];
  norm: Tensor;
  /** The embedding itself when tied. */
  head: Weight;
  /** (positions, 2, D/2) f32; grown by `reserveRope`. */
  rope: Tensor;
}

/** Puts a model's weights on the GPU. @throws {InvalidFile} @throws {GpuError} */
export async function loadDecoder(
  gpu: Gpu,
  source: ModelWeights,
  onProgress?: (done: number, total: number) => void,
): Promise<Decoder> {
  const { config } = source;
  const total = source.tensors.size;
  const weights: Weight[] = [];
  const vectors: Tensor[] = [];
  const stored = async (name: string) => {
    const tensor = await source.read(name);
    onProgress?.(weights.length + vectors.length + 1, total);
    return tensor;
  };
  const upload = async (
    name: string,
    uses: WeightUse[],
    shape = (tensor: StoredTensor) => tensor,
  ) => {
    const matrix = shape(await stored(name));
    await requireOps(gpu, checksOfWeight(gpu, matrix));
    const weight = uploadWeight(gpu, name, matrix, uses);
    weights.push(weight);
    return weight;
  };
  const weight = (name: string) => upload(name, ["multiplied"]);
  const vocabulary = (name: string, uses: WeightUse[]) => upload(name, uses, paddedRows);
  const vector = async (name: string) => {
    const tensor = gpu.upload(name, toFloat32(await stored(name)));
    vectors.push(tensor);
    return tensor;
  };

  let decoder: Decoder | null = null;
  try {
    await requireOps(gpu, modelChecks);
    const embedding = await vocabulary(
      "model.embed_tokens.weight",
      config.tieEmbeddings ? ["gathered", "multiplied"] : ["gathered"],
    );
    const blocks: Block[] = [];
    for (let layer = 0; layer < config.layers; layer++) {
      blocks.push(await loadBlock(config, layer, weight, vector));
      await gpu.sync();
    }
    decoder = {
      config,
      embedding,
      blocks,
      norm: await vector("model.norm.weight"),
      head: config.tieEmbeddings ? embedding : await vocabulary("lm_head.weight", ["multiplied"]),
      rope: gpu.tensor("rope.table", [0]),
    };
    reserveRope(gpu, decoder, Math.min(config.maxPositions, 1024));
    await gpu.sync();
    return decoder;
  } catch (error) {
    // A damaged file may be tried again and again: what was loaded of it must not stay. Freeing fails
    // with the device only, which the next command is told; the first error says more.
    if (decoder) vectors.push(decoder.rope);
    await destroyWeight(gpu, ...weights).finally(() => gpu.destroy(...vectors)).catch(() => {});
    throw error;
  }
}

/** Rows of zeros up to a multiple of 4, as the kernels want them; the head masks them out. */
function paddedRows(stored: StoredTensor): StoredTensor {
  const [N, K] = stored.shape;
  if (N % 4 === 0) return stored;
  const rows = Math.ceil(N / 4) * 4;
  const bytes = new Uint8Array(stored.bytes.byteLength / N * rows);
  bytes.set(stored.bytes);
  return { dtype: stored.dtype, shape: [rows, K], bytes };
}

async function loadBlock(
  config: ModelConfig,
  layer: number,
  weight: (name: string) => Promise<Weight>,
  vector: (name: string) => Promise<Tensor>,
): Promise<Block> {
  const prefix = `model.layers.${layer}`;
  const weights = {} as Record<Projection, Weight>;
  const biases: Partial<Record<Projection, Tensor>> = {};
  for (const projection of projections) {
    const path = projectionPath(layer, projection);
    weights[projection] = await weight(`${path}.weight`);
    if (config.qkvBias && ["q_proj", "k_proj", "v_proj"].includes(projection)) {
      biases[projection] = await vector(`${path}.bias`);
    }
  }
  return {
    inputNorm: await vector(`${prefix}.input_layernorm.weight`),
    postNorm: await vector(`${prefix}.post_attention_layernorm.weight`),
    weights,
    biases,
    qNorm: config.qkNorm ? await vector(`${prefix}.self_attn.q_norm.weight`) : null,
    kNorm: config.qkNorm ? await vector(`${prefix}.self_attn.k_norm.weight`) : null,
  };
}

/** Rows of x that a model meets: decoding few sequences, decoding many, training. */
const tunedRows = [1, 8, 32, 64, 256, 1024];

/** Measures matmul variants on the products this decoder runs, where the adapter has a choice. */
export async function tuneDecoder(gpu: Gpu, { blocks, head }: Decoder): Promise<void> {
  const weights = new Map(
    [head, ...Object.values(blocks[0].weights)].map((weight) => [`${weight.shape}`, weight]),
  );
  const directions = ["forward", "backward"] as const;
  const shapes = [...weights.values()].flatMap(({ shape: [N, K], dtype }) =>
    directions.flatMap((direction) => tunedRows.map((rows) => ({ rows, N, K, dtype, direction })))
  );
  await tuneMatmul(gpu, { shapes });
}

/** Destroys everything the decoder holds on the GPU. */
export async function destroyDecoder(gpu: Gpu, decoder: Decoder): Promise<void> {
  const { embedding, head, norm, rope, blocks } = decoder;
  const weights = head === embedding ? [embedding] : [embedding, head];
  const tensors = [norm, rope];
  for (const block of blocks) {
    weights.push(...Object.values(block.weights));
    tensors.push(block.inputNorm, block.postNorm, ...Object.values(block.biases));
    if (block.qNorm) tensors.push(block.qNorm);
    if (block.kNorm) tensors.push(block.kNorm);
  }
  await destroyWeight(gpu, ...weights).finally(() => gpu.destroy(...tensors));
}

/**
 * Makes the RoPE table reach `positions`.
 * @throws {GpuError} past the model's own limit.
 */
export function reserveRope(gpu: Gpu, decoder: Decoder, positions: number): void {
  const { config } = decoder;
  if (positions > config.maxPositions) {
    throw new GpuError(
      `Cannot place a sample of ${positions} tokens: the model has ${config.maxPositions} ` +
        "positions. Use a smaller max_length, prompt or completion.",
      null,
      "context_length_exceeded",
    );
  }
  if (decoder.rope.shape[0] >= positions) return;
  const reserved = Math.min(config.maxPositions, Math.max(positions, decoder.rope.shape[0] * 2));
  const outgrown = decoder.rope;
  // The decoder keeps it, also when the pass it is grown for fails.
  decoder.rope = gpu.lasting(() =>
    gpu.upload(
      "rope.table",
      ropeTable(reserved, ropeFrequencies(config)),
      [reserved, 2, config.headSize / 2],
    )
  );
  gpu.release(outgrown);
}

/** Radians a position of each of the D/2 pairs, with linear or Llama 3 scaling as Transformers does. */
export function ropeFrequencies(config: ModelConfig): Float64Array {
  const { headSize: D, ropeTheta, ropeScaling } = config;
  const frequencies = Float64Array.from(
    { length: D / 2 },
    (_, i) => 1 / ropeTheta ** (2 * i / D),
  );
  if (!ropeScaling) return frequencies;
  if (ropeScaling.type === "linear") return frequencies.map((f) => f / ropeScaling.factor);
  const { factor, lowFreqFactor, highFreqFactor, originalMaxPositions } = ropeScaling;
  return frequencies.map((frequency) => {
    const wavelength = 2 * Math.PI / frequency;
    if (wavelength < originalMaxPositions / highFreqFactor) return frequency;
    if (wavelength > originalMaxPositions / lowFreqFactor) return frequency / factor;
    const smooth = (originalMaxPositions / wavelength - lowFreqFactor) /
      (highFreqFactor - lowFreqFactor);
    return (1 - smooth) * frequency / factor + smooth * frequency;
  });
}
