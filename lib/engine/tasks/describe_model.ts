// What a model is, from its files alone: nothing is loaded onto the GPU.

import { openModel } from "../../model/open.ts";
import type { TaskContext } from "../context.ts";
import type { DescribeModelTask } from "../messages.ts";

export async function describeModel(
  _context: TaskContext,
  { model }: DescribeModelTask,
): Promise<Record<string, unknown>> {
  const source = await openModel(model.path);
  try {
    const { config, tokenizer, tensors } = source;
    let parameters = 0, sizeBytes = 0;
    for (const tensor of tensors.values()) {
      parameters += tensor.shape.reduce((product, size) => product * size, 1);
      sizeBytes += tensor.sizeBytes;
    }
    return {
      architecture: config.architecture,
      parameters,
      size_bytes: sizeBytes,
      layers: config.layers,
      hidden_size: config.hiddenSize,
      intermediate_size: config.intermediateSize,
      heads: config.heads,
      kv_heads: config.kvHeads,
      head_size: config.headSize,
      vocabulary: config.vocabSize,
      context_length: config.maxPositions,
      has_chat_template: tokenizer.hasChatTemplate,
    };
  } finally {
    source.close();
  }
}
