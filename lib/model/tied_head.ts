// What `tie_word_embeddings` of a config.json comes to once the file is looked at. As Transformers 5 does it
// (`tie_weights` in modeling_utils.py): with an embedding and an lm_head.weight that differ, the config is wrong
// and the head is used as stored; with two that are equal, or with the embedding alone, the head is the
// embedding; with lm_head.weight alone, the embedding is the head.

import { Buffer } from "node:buffer";
import type { ModelConfig } from "./config.ts";
import type { StoredBytes } from "./digest.ts";
import type { UnreadTensor } from "./model_source.ts";

const embeddingName = "model.embed_tokens.weight";
const headName = "lm_head.weight";
const pieceBytes = 4 * 2 ** 20;

/**
 * The config and tensors as they are used. Two tensors are compared byte by byte, which reads both whole when
 * they are equal.
 * @param isSame left out, `hasSameBytes`
 */
export function resolveTiedHead(
  config: ModelConfig,
  found: Map<string, UnreadTensor>,
  isSame: (a: StoredBytes, b: StoredBytes) => boolean = hasSameBytes,
): { config: ModelConfig; tensors: Map<string, UnreadTensor> } {
  const [embedding, head] = [found.get(embeddingName), found.get(headName)];
  if (!config.tieEmbeddings || !head) return { config, tensors: found };
  if (!embedding) return { config, tensors: new Map(found).set(embeddingName, head) };
  const tieEmbeddings = isSame(embedding.stored, head.stored);
  return { config: { ...config, tieEmbeddings }, tensors: found };
}

/** Whether two tensors are of one type and hold the same bytes. */
export function hasSameBytes(a: StoredBytes, b: StoredBytes): boolean {
  if (a.type !== b.type || a.sizeBytes !== b.sizeBytes) return false;
  for (let offset = 0; offset < a.sizeBytes; offset += pieceBytes) {
    const length = Math.min(pieceBytes, a.sizeBytes - offset);
    if (Buffer.compare(a.read(offset, length), b.read(offset, length)) !== 0) return false;
  }
  return true;
}
