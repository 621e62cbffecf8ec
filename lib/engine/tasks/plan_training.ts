// What a training would take, without doing it: elements, memory by kind, steps and time. Region sizes
// are known for a stored partition only; one that is yet to be made counts every element as active.

import { format } from "@std/fmt/bytes";
import { GpuError } from "../../errors.ts";
import { maxAdapterElements } from "../../lora/adapter.ts";
import { readTrainableAdapter } from "../../lora/adapter_file.ts";
import { type LoraLayout, loraLayout } from "../../lora/layout.ts";
import { rolloutBytes } from "../../model/cache_room.ts";
import { passBytes } from "../../model/pass.ts";
import type { ModelWeights } from "../../model/source.ts";
import { readPartition, type StoredPartition } from "../../par/partition_file.ts";
import { loraSettings } from "../../par/settings.ts";
import { tokensPerPass, totalSteps } from "../../train/phase.ts";
import type { PhaseSettings } from "../../train/settings.ts";
import type { GpuContext } from "../context.ts";
import type { TrainPlan, TrainTask } from "../messages.ts";
import type { PhaseData } from "./phase_data.ts";

/**
 * The plan of a training on rendered data. `held` are bytes of the model's weights that are on the GPU
 * already, and so no longer among the available ones.
 */
export async function planTraining(
  { gpu }: GpuContext,
  { source, held }: { source: ModelWeights; held: number },
  task: TrainTask,
  data: PhaseData[],
): Promise<TrainPlan> {
  const { config } = source;
  const { request } = task;
  const stored = task.partition ? await readPartition(task.partition.folder) : null;
  const layout = layoutOf(task, source, stored);
  const active = request.phases.map((settings) => ({
    kind: settings.kind,
    elements: activeCount(layout, stored, settings),
  }));

  const weights = weightBytes(source);
  const phases = data.map(planPhase);
  const activations = Math.max(
    ...phases.map(({ passTokens }) => passBytes(config, passTokens, passTokens)),
  );
  const kvCache = Math.max(
    ...phases.map(({ rollouts: { rows, tokens } }) => rolloutBytes(gpu, config, rows, tokens)),
  );
  const adapter = layout.elements * 4 * 2;
  const optimizer = Math.max(...active.map(({ elements }) => elements * 4 * 3));
  const total = weights + adapter + activations + kvCache + optimizer;
  const available = gpu.facts.software ? Deno.systemMemoryInfo().available + held : null;
  return {
    elements: { total: layout.elements, active },
    memory: {
      weights,
      activations,
      kv_cache: kvCache,
      optimizer: optimizer + adapter,
      total,
      available,
    },
    fits: (available === null || total <= available) && layout.elements <= maxAdapterElements(gpu),
    phases: phases.map(({ kind, samples, steps }) => ({ kind, samples, steps })),
    estimated_seconds: null,
  };
}

/** Bytes of a model's weights as they lie on the GPU. */
export function weightBytes({ tensors }: ModelWeights): number {
  return [...tensors.values()].reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
}

/** @throws {GpuError} when a plan does not fit: better now than by the system killing the server. */
export function requireMemory({ memory }: TrainPlan): void {
  const { total, available, activations, kv_cache } = memory;
  if (available === null || total <= available) return;
  const formatBytes = (bytes: number) => format(bytes, { binary: true });
  throw new GpuError(
    `Cannot train: it takes about ${formatBytes(total)} (${
      formatBytes(activations)
    } of activations, ` +
      `${formatBytes(kv_cache)} of KV cache), ${formatBytes(available)} are there. Use a smaller ` +
      "model, batch, max_length or max_completion_length.",
    null,
    "out_of_memory",
  );
}

function layoutOf(
  { request, model }: TrainTask,
  source: ModelWeights,
  stored: StoredPartition | null,
): LoraLayout {
  if (stored) return stored.layout;
  if (model.adapterFolder) return readTrainableAdapter(model.adapterFolder, source).layout;
  const { partition, lora } = request;
  const made = partition && typeof partition === "object" ? partition.lora : lora;
  return loraLayout(source.config, made ?? loraSettings.parse({}));
}

function activeCount(
  layout: LoraLayout,
  stored: StoredPartition | null,
  { activate }: PhaseSettings,
): number {
  if (!stored) return layout.elements;
  const { active, counts } = stored.report;
  if (activate === "system1") return active.phase1;
  if (activate === "system2") return active.phase2;
  return stored.report.elements - counts.inactive;
}

interface PhasePlan {
  kind: string;
  samples: number;
  steps: number;
  /** Tokens of the largest pass. */
  passTokens: number;
  /** Completions of a step, and the tokens of the longest with its prompt. */
  rollouts: { rows: number; tokens: number };
}

function planPhase(data: PhaseData): PhasePlan {
  const { kind, settings, samples: { length: samples } } = data;
  const perStep = settings.per_device_train_batch_size * settings.gradient_accumulation_steps;
  if (kind === "sft") {
    const lengths = data.samples.map(({ tokens }) => tokens.length).sort((a, b) => b - a);
    const ofStep = lengths.slice(0, perStep).reduce((sum, length) => sum + length, 0);
    const passTokens = Math.max(lengths[0], Math.min(ofStep, tokensPerPass));
    const steps = totalSteps(settings, samples, perStep);
    return { kind, samples, steps, passTokens, rollouts: { rows: 0, tokens: 0 } };
  }
  const prompt = data.samples.reduce((most, { tokens }) => Math.max(most, tokens.length), 0);
  const longest = prompt + settings.max_completion_length;
  const promptsPerStep = Math.max(1, Math.floor(perStep / settings.num_generations));
  return {
    kind,
    samples,
    steps: totalSteps(settings, samples, promptsPerStep, settings.num_iterations),
    passTokens: Math.max(longest, Math.min(perStep * longest, tokensPerPass)),
    rollouts: { rows: perStep, tokens: longest },
  };
}
