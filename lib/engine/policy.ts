// Puts a model reference on the GPU for one task: the cached base, and the adapter where it has one.

import { releaseAdapter, uploadAdapter } from "../lora/adapter.ts";
import { readAdapter } from "../lora/adapter_file.ts";
import type { Policy } from "../model/pass.ts";
import type { ModelWeights } from "../model/source.ts";
import { type GpuContext, modelUse } from "./context.ts";
import type { ModelReference } from "./messages.ts";

export interface LoadedPolicy extends Policy {
  source: ModelWeights;
}

/** Runs `work` with the model loaded; loading itself takes a turn on the GPU. */
export function withPolicy<T>(
  context: GpuContext,
  reference: ModelReference,
  work: (policy: LoadedPolicy) => Promise<T>,
): Promise<T> {
  const { gpu, models, turns } = context;
  return models.with(reference.path, async ({ source, decoder }) => {
    if (!reference.adapterFolder) return await work({ source, decoder, adapter: null });
    const { layout, phi, scale } = readAdapter(reference.adapterFolder, source);
    const adapter = await turns.take(() =>
      Promise.resolve(uploadAdapter(gpu, layout, phi, { scale }))
    );
    try {
      return await work({ source, decoder, adapter });
    } finally {
      releaseAdapter(gpu, adapter);
    }
  }, modelUse(context));
}
