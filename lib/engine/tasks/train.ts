// A training job from samples to an adapter: classify where asked, partition, then the phases one
// after the other on one set of LoRA elements. Every phase moves only its own active elements; at the end
// that is checked bit by bit, and a training that broke it fails.

import type { RenderedSample } from "../../data/render.ts";
import { type Adapter, releaseAdapter, uploadAdapter } from "../../lora/adapter.ts";
import { writeAdapter } from "../../lora/adapter_file.ts";
import { exportedBaseName } from "../../model/hub_name.ts";
import { openWeights } from "../../model/open.ts";
import type { Policy } from "../../model/pass.ts";
import type { ModelWeights } from "../../model/source.ts";
import { meanLoss } from "../../train/evaluate.ts";
import { trainGrpo } from "../../train/grpo.ts";
import { requireInactiveUnchanged } from "../../train/inactive.ts";
import { createOptimizer, type Optimizer } from "../../train/optimizer.ts";
import type { PhaseContext, PhaseResult } from "../../train/phase.ts";
import { trainSft } from "../../train/sft.ts";
import { deriveSeed } from "../../seeds.ts";
import { type GpuContext, modelUse, progressOf, type TaskContext } from "../context.ts";
import type { TrainPlan, TrainResult, TrainTask } from "../messages.ts";
import { requireTrainingKernels } from "../training_kernels.ts";
import { answerAndJudge, type AnswerPrompts, answerPrompts } from "./answer_prompts.ts";
import { classifySamples } from "./classify.ts";
import { type PhaseData, phaseData, validationData } from "./phase_data.ts";
import { planTraining, requireMemory, weightBytes } from "./plan_training.ts";
import {
  activeBits,
  phaseElements,
  requireElements,
  type StartingPoint,
  startingPoint,
} from "./starting_point.ts";

export async function train(
  context: TaskContext,
  task: TrainTask,
): Promise<TrainResult | TrainPlan> {
  const { texts } = context;
  await texts.call("read_samples", {
    set: "train",
    files: [{ file: task.file, system: null, param: "file" }],
  });
  const onGpu = await context.device();
  if (task.dryRun) return await planOnly(onGpu, task);
  await requireTrainingKernels(onGpu);
  const { gpu, models } = onGpu;
  return await models.with(task.model.path, async ({ source, decoder }) => {
    if (task.request.classify) await label(onGpu, task, task.request.classify);
    const { data, eosTokens } = await phaseData(texts, task.model, task.request.phases);
    const heldOut = await heldOutPrompts(onGpu, task);
    const validation = await validationSamples(onGpu, task);
    if (task.request.checkpoint_every_steps > 0) {
      const message = "This version writes no checkpoints: checkpoint_every_steps has no effect.";
      context.emit({ type: "log", level: "warning", message });
    }
    requireMemory(await planTraining(onGpu, { source, held: weightBytes(source) }, task, data));
    const start = await startingPoint(onGpu, task, { source, decoder });
    let adapter: Adapter | null = null;
    try {
      await requireElements(gpu, start, task.request.phases);
      adapter = uploadAdapter(gpu, start.layout, start.phi, {
        scale: start.scale,
        trainable: true,
        residual: start.residual ?? undefined,
      });
      const training = { source, decoder, adapter, start, data, eosTokens, heldOut, validation };
      return await trainPhases(onGpu, task, training);
    } finally {
      if (adapter) releaseAdapter(gpu, adapter);
      if (start.active) gpu.release(start.active);
    }
  }, modelUse(onGpu));
}

/** The plan, from the files alone: a model that is too large for this machine has one too. */
async function planOnly(context: GpuContext, task: TrainTask): Promise<TrainPlan> {
  // Labels that are yet to be voted may be any.
  const phases = task.request.classify
    ? task.request.phases.map((phase) => ({ ...phase, data: "all" as const }))
    : task.request.phases;
  const { data } = await phaseData(context.texts, task.model, phases);
  const source = await openWeights(task.model.path);
  try {
    const held = context.models.holds(task.model.path) ? weightBytes(source) : 0;
    return await planTraining(context, { source, held }, task, data);
  } finally {
    source.close();
  }
}

/** Has the samples labelled by teachers. */
async function label(
  context: GpuContext,
  { model, outputFolder, localTeachers, apiKeys, allowedHosts }: TrainTask,
  classify: NonNullable<TrainTask["request"]["classify"]>,
): Promise<void> {
  const settings = { ...classify, target_model: model.id };
  const access = { localTeachers, apiKeys, allowedHosts };
  await classifySamples(context, { settings, access, outputFolder });
}

/** What is answered after each phase, checked; null where nothing is asked for. */
async function heldOutPrompts({ texts }: GpuContext, task: TrainTask) {
  if (!task.request.evaluate) return null;
  const { grader, limit, max_tokens: maxTokens } = task.request.evaluate;
  const file = { file: task.evaluateFile!, system: null, param: "evaluate.file" };
  return await answerPrompts(texts, file, task.model, {
    limit: limit ?? null,
    maxTokens,
    systemPrompt: null,
    grader,
    rewards: null,
  });
}

/** What each phase is measured on; null where nothing is. */
async function validationSamples({ texts }: GpuContext, task: TrainTask) {
  const { model, request, validationFile: file } = task;
  if (!file) return request.phases.map(() => null);
  await texts.call("read_samples", {
    set: "validation",
    files: [{ file, system: null, param: "validation_file" }],
  });
  return await validationData(texts, model, request.phases);
}

/** What the phases of one job share. */
interface Training {
  source: ModelWeights;
  decoder: Policy["decoder"];
  adapter: Adapter;
  start: StartingPoint;
  data: PhaseData[];
  /** Tokens that end a completion. */
  eosTokens: number[];
  /** Answered after each phase, or null. */
  heldOut: AnswerPrompts | null;
  /** What each phase is measured on, or null. */
  validation: (RenderedSample[] | null)[];
}

async function trainPhases(
  context: GpuContext,
  task: TrainTask,
  training: Training,
): Promise<TrainResult> {
  const { gpu } = context;
  const { request, outputFolder } = task;
  const { adapter, start, data } = training;
  const phases: TrainResult["phases"] = [];
  const evaluations: TrainResult["evaluations"] = [];

  for (const [index, phase] of data.entries()) {
    const begin = performance.now();
    const { result, elements } = await trainPhase(context, task, training, phase, index);
    warnOfWarmup(context, phase, result, index);
    const validation = training.validation[index];
    if (validation) {
      const eval_loss = await validate(context, training, validation);
      result.metrics.eval_loss = eval_loss;
      const { steps: step } = result;
      context.emit({ type: "metrics", phase: "validation", step, values: { eval_loss } });
    }
    phases.push({
      kind: phase.kind,
      steps: result.steps,
      tokens: result.tokens,
      active_elements: elements,
      metrics: result.metrics,
      seconds: (performance.now() - begin) / 1000,
    });
    if (training.heldOut) {
      const evaluated = await evaluateNow(context, task, training, training.heldOut);
      evaluations.push({ after_phase: index + 1, ...evaluated });
    }
  }

  const [phiWords, activeWords] = await gpu.readWords(
    start.active ? [adapter.phi, start.active] : [adapter.phi],
  );
  const phi = new Float32Array(phiWords);
  const moved = request.phases.reduce((bits, settings) => bits | activeBits(settings), 0);
  // Before anything is written: what breaks the method is no result.
  if (activeWords) {
    requireInactiveUnchanged(start.phi, phi, new Uint8Array(activeWords), moved);
  }
  const dropout = Math.max(...request.phases.map(({ lora_dropout }) => lora_dropout));
  const { hubName } = training.source;
  const base = {
    name: exportedBaseName(task.model.path, hubName, task.adapterBase),
    digest: training.source.digest(),
  };
  await writeAdapter(`${outputFolder}/adapter`, base, { ...start, phi }, dropout);
  return {
    adapterFolder: "adapter",
    partitionFolder: start.madePartition ? "partition" : null,
    classifiedFile: request.classify ? "classified.jsonl" : null,
    phases,
    evaluations,
    inactive_elements_changed: 0,
  };
}

/** As in Transformers a warm-up begins at 0, so a phase of one step may move nothing. */
function warnOfWarmup(
  context: GpuContext,
  { kind, settings }: PhaseData,
  { steps, metrics }: PhaseResult,
  index: number,
): void {
  if (steps !== 1 || metrics.learning_rate > 0 || settings.learning_rate === 0) return;
  const message =
    `Phase ${index + 1} (${kind}) trained nothing: its one step is the warm-up's first, ` +
    "at a learning rate of 0. Set warmup_ratio to 0, or take smaller batches or more epochs.";
  context.emit({ type: "log", level: "warning", message });
}

/** One phase, from its samples to its last step. */
async function trainPhase(
  context: GpuContext,
  task: TrainTask,
  { decoder, adapter, start, eosTokens }: Training,
  data: PhaseData,
  index: number,
): Promise<{ result: PhaseResult; elements: number }> {
  const { gpu, texts, turns } = context;
  const { kind, settings } = data;
  const active = await phaseElements(gpu, start, settings);
  let optimizer: Optimizer | null = null;
  try {
    const trained = { phi: adapter.phi, grad: adapter.grad! };
    optimizer = createOptimizer(gpu, trained, active, settings);
    const phase: PhaseContext = {
      gpu,
      decoder,
      adapter,
      optimizer,
      seed: deriveSeed(task.request.seed, "phase", index),
      turn: turns.take,
      checkCancelled: context.checkCancelled,
      onProgress: progressOf(context, kind, "steps"),
      onMetrics: (step, values) => context.emit({ type: "metrics", phase: kind, step, values }),
      onSample: (sample) => context.emit({ type: "sample", sample }),
    };
    const result = kind === "sft"
      ? await trainSft(phase, data.samples, settings)
      : await trainGrpo(phase, data.samples, {
        eosTokens,
        score: (completions) => texts.call("score_completions", { phase: index, completions }),
      }, settings);
    return { result, elements: active.count };
  } finally {
    optimizer?.release();
    gpu.release(active.indices);
  }
}

/** The loss on a validation file's samples, Transformers' eval_loss. */
function validate(
  { gpu, turns, checkCancelled }: GpuContext,
  { decoder, adapter }: Training,
  samples: RenderedSample[],
): Promise<number> {
  return meanLoss(gpu, { decoder, adapter }, samples, { turn: turns.take, checkCancelled });
}

/** Accuracy as it is now on the evaluation file, greedily. */
async function evaluateNow(
  context: GpuContext,
  { request }: TrainTask,
  { decoder, adapter }: Training,
  heldOut: AnswerPrompts,
): Promise<{ accuracy: number; count: number }> {
  const correct = await answerAndJudge(context, { decoder, adapter }, heldOut, {
    maxTokens: request.evaluate!.max_tokens,
    temperature: 0,
    seed: request.seed,
    keep: false,
  });
  const count = heldOut.prompts.length;
  return { accuracy: correct / count, count };
}
