// What a model is, from its files alone: nothing is loaded onto the GPU.

import type { TextCall } from "../call.ts";
import type { TextCalls } from "../messages.ts";
import { openFiles } from "../models.ts";

type Describe = TextCalls["describe_model"];

export async function describeModel(
  { model }: Describe["args"],
  call: TextCall,
): Promise<Describe["result"]> {
  const { config, tokenizer, tensors } = await openFiles(model, call);
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
    chat_template: tokenizer.hasChatTemplate ? "the model's own" : "plain fallback",
  };
}
