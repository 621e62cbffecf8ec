// What a training would take, without doing it: elements, memory by kind, steps and time. Region sizes
// are known for a stored partition only; one that is yet to be made counts every element as active.

import { passBytes } from "../../model/pass.ts";
import { renderPrompts, renderSamples } from "../../data/render.ts";
import type { Sample } from "../../data/record.ts";
import { InvalidRequest } from "../../errors.ts";
import { type LoraLayout, loraLayout } from "../../lora/layout.ts";
import type { ModelConfig } from "../../model/config.ts";
import type { ModelSource } from "../../model/source.ts";
import { readPartition, type StoredPartition } from "../../par/partition_file.ts";
import { loraSettings } from "../../par/settings.ts";
import { phaseSamples, tokensPerPass, totalSteps } from "../../train/phase.ts";
import type { GrpoSettings, PhaseSettings, SftSettings } from "../../train/settings.ts";
import { readTrainableAdapter } from "../../lora/adapter_file.ts";
import type { TaskContext } from "../context.ts";
import type { TrainPlan, TrainTask } from "../messages.ts";

export async function planTraining(
  { gpu }: TaskContext,
  source: ModelSource,
  task: TrainTask,
  samples: Sample[],
): Promise<TrainPlan> {
  const { config } = source;
  const { request } = task;
  const stored = task.partition ? await readPartition(task.partition.folder) : null;
  const layout = layoutOf(task, config, stored);
  const active = request.phases.map((settings) => ({
    kind: settings.kind,
    elements: activeCount(layout, stored, settings),
  }));

  let weights = 0;
  for (const { sizeBytes } of source.tensors.values()) weights += sizeBytes;
  const phases = request.phases.map((settings) => planPhase(source, samples, settings));
  const activations = Math.max(
    ...phases.map(({ passTokens }) => passBytes(config, passTokens, passTokens)),
  );
  const kvCache = Math.max(...phases.map(({ cacheTokens }) => cacheTokens * kvBytes(config)));
  const adapter = layout.elements * 4 * 2;
  const optimizer = Math.max(...active.map(({ elements }) => elements * 4 * 3));
  const total = weights + adapter + activations + kvCache + optimizer;
  const available = gpu.facts.software ? Deno.systemMemoryInfo().available : null;
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
    fits: available === null || total <= available,
    phases: phases.map(({ kind, samples, steps }) => ({ kind, samples, steps })),
    estimated_seconds: null,
  };
}

function layoutOf(
  { request, model }: TrainTask,
  config: ModelConfig,
  stored: StoredPartition | null,
): LoraLayout {
  if (stored) return stored.layout;
  if (model.adapterFolder) return readTrainableAdapter(model.adapterFolder, config).layout;
  const { partition, lora } = request;
  const made = partition && typeof partition === "object" ? partition.lora : lora;
  return loraLayout(config, made ?? loraSettings.parse({}));
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

/** Keys and values of one token, f32. */
function kvBytes({ layers, kvHeads, headSize }: ModelConfig): number {
  return 2 * layers * kvHeads * headSize * 4;
}

interface PhasePlan {
  kind: string;
  samples: number;
  steps: number;
  /** Tokens of the largest pass. */
  passTokens: number;
  /** Tokens whose keys and values are held at once. */
  cacheTokens: number;
}

function planPhase(source: ModelSource, samples: Sample[], settings: PhaseSettings): PhasePlan {
  const chosen = phaseSamples(samples, settings);
  if (chosen.length === 0) {
    throw new InvalidRequest(
      `Cannot plan ${settings.kind} on ${settings.data}: no sample is labelled so`,
      "file",
      "one_sided_data",
    );
  }
  return settings.kind === "sft"
    ? planSft(source, chosen, settings)
    : planGrpo(source, chosen, settings);
}

function planSft(source: ModelSource, chosen: Sample[], settings: SftSettings): PhasePlan {
  const maxLength = settings.max_length;
  const rendered = renderSamples(chosen, source.tokenizer, { maxLength }).samples;
  const perStep = settings.per_device_train_batch_size * settings.gradient_accumulation_steps;
  const lengths = rendered.map(({ tokens }) => tokens.length).sort((a, b) => b - a);
  const ofStep = lengths.slice(0, perStep).reduce((sum, length) => sum + length, 0);
  return {
    kind: "sft",
    samples: chosen.length,
    steps: totalSteps(settings, chosen.length, perStep),
    passTokens: Math.max(lengths[0], Math.min(ofStep, tokensPerPass)),
    cacheTokens: 0,
  };
}

function planGrpo(source: ModelSource, chosen: Sample[], settings: GrpoSettings): PhasePlan {
  const rendered = renderPrompts(chosen, source.tokenizer, {
    maxPromptLength: settings.max_prompt_length,
    systemPrompt: settings.system_prompt,
  }).samples;
  const completions = settings.per_device_train_batch_size * settings.gradient_accumulation_steps;
  const longest = Math.max(...rendered.map((tokens) => tokens.length)) +
    settings.max_completion_length;
  const promptsPerStep = Math.max(1, Math.floor(completions / settings.num_generations));
  return {
    kind: "grpo",
    samples: chosen.length,
    steps: totalSteps(settings, chosen.length, promptsPerStep, settings.num_iterations),
    passTokens: Math.max(longest, Math.min(completions * longest, tokensPerPass)),
    cacheTokens: completions * longest,
  };
}
