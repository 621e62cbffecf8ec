// A training job from samples to an adapter: classify where asked, partition, then the phases one
// after the other on one set of LoRA elements. Every phase moves only its own active elements; at the end
// that is checked bit by bit, and a training that broke it fails.

import { readDataset } from "../../data/dataset.ts";
import type { Sample } from "../../data/record.ts";
import type { RenderedSample } from "../../data/render.ts";
import { type Adapter, releaseAdapter, uploadAdapter } from "../../lora/adapter.ts";
import { writeAdapter } from "../../lora/adapter_file.ts";
import { openModel } from "../../model/open.ts";
import type { Policy } from "../../model/pass.ts";
import type { ModelSource } from "../../model/source.ts";
import { answerAll, answerPrompts, meanLoss } from "../../train/evaluate.ts";
import { checkGrader, grade } from "../../train/grade.ts";
import { trainGrpo } from "../../train/grpo.ts";
import { requireInactiveUnchanged } from "../../train/inactive.ts";
import { createOptimizer, type Optimizer } from "../../train/optimizer.ts";
import type { PhaseContext, PhaseResult } from "../../train/phase.ts";
import { trainSft } from "../../train/sft.ts";
import { deriveSeed } from "../../seeds.ts";
import { type GpuContext, modelUse, progressOf } from "../context.ts";
import type { TrainPlan, TrainResult, TrainTask } from "../messages.ts";
import { classifyFile } from "./classify.ts";
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
  context: GpuContext,
  task: TrainTask,
): Promise<TrainResult | TrainPlan> {
  if (task.dryRun) return await planOnly(context, task);
  const { gpu, models } = context;
  return await models.with(task.model.path, async ({ source, decoder }) => {
    const read = await readDataset(task.file.path, task.file.filename);
    const samples = task.request.classify
      ? (await classifyFile(context, task, read, {
        ...task.request.classify,
        target_model: task.model.id,
      }, task.outputFolder)).labelled
      : read;
    const data = phaseData(source, samples, task.request.phases);
    const heldOut = await evaluateSamples(source, task);
    const validation = await validationSamples(source, task);
    if (task.request.checkpoint_every_steps > 0) {
      const message = "This version writes no checkpoints: checkpoint_every_steps has no effect.";
      context.emit({ type: "log", level: "warning", message });
    }
    requireMemory(await planTraining(context, { source, held: weightBytes(source) }, task, data));
    const start = await startingPoint(context, task, { source, decoder }, samples);
    let adapter: Adapter | null = null;
    try {
      await requireElements(gpu, start, task.request.phases);
      adapter = uploadAdapter(gpu, start.layout, start.phi, {
        scale: start.scale,
        trainable: true,
        residual: start.residual ?? undefined,
      });
      const training = { source, decoder, adapter, start, data, heldOut, validation };
      return await trainPhases(context, task, training);
    } finally {
      if (adapter) releaseAdapter(gpu, adapter);
      if (start.active) gpu.release(start.active);
    }
  }, modelUse(context));
}

/** The plan, from the files alone: a model that is too large for this machine has one too. */
async function planOnly(context: GpuContext, task: TrainTask): Promise<TrainPlan> {
  const source = await openModel(task.model.path);
  try {
    const samples = await readDataset(task.file.path, task.file.filename);
    // Labels that are yet to be voted may be any.
    const phases = task.request.classify
      ? task.request.phases.map((phase) => ({ ...phase, data: "all" as const }))
      : task.request.phases;
    const data = phaseData(source, samples, phases);
    const held = context.models.holds(task.model.path) ? weightBytes(source) : 0;
    return await planTraining(context, { source, held }, task, data);
  } finally {
    source.close();
  }
}

/** The samples that are answered after each phase, checked; none where none are asked for. */
async function evaluateSamples({ config, tokenizer }: ModelSource, task: TrainTask) {
  if (!task.request.evaluate) return [];
  const { grader, limit, max_tokens: maxTokens } = task.request.evaluate;
  const { path, filename } = task.evaluateFile!;
  const samples = (await readDataset(path, filename)).slice(0, limit);
  checkGrader(grader, samples);
  answerPrompts(samples, tokenizer, config, { maxTokens, systemPrompt: null });
  return samples;
}

/** What each phase is measured on; null where nothing is. */
async function validationSamples(source: ModelSource, { request, validationFile }: TrainTask) {
  if (!validationFile) return request.phases.map(() => null);
  const samples = await readDataset(validationFile.path, validationFile.filename);
  return validationData(source, samples, request.phases);
}

/** What the phases of one job share. */
interface Training {
  source: ModelSource;
  decoder: Policy["decoder"];
  adapter: Adapter;
  start: StartingPoint;
  data: PhaseData[];
  /** Answered after each phase. */
  heldOut: Sample[];
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
    if (request.evaluate) {
      evaluations.push({ after_phase: index + 1, ...await evaluateNow(context, task, training) });
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
  const base = { name: task.model.baseId, digest: training.source.digest() };
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
  { source, decoder, adapter, start }: Training,
  data: PhaseData,
  index: number,
): Promise<{ result: PhaseResult; elements: number }> {
  const { gpu, turns } = context;
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
      : await trainGrpo(phase, data.samples, source.tokenizer, settings);
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
  task: TrainTask,
  { source, decoder, adapter, heldOut: samples }: Training,
): Promise<{ accuracy: number; count: number }> {
  const { grader, max_tokens: maxTokens } = task.request.evaluate!;
  const policy = { decoder, adapter };
  const answers = await answerAll(context.gpu, policy, source.tokenizer, samples, {
    maxTokens,
    temperature: 0,
    seed: task.request.seed,
    systemPrompt: null,
  }, {
    turn: context.turns.take,
    checkCancelled: context.checkCancelled,
    onAnswers: progressOf(context, "evaluate", "samples"),
  });
  const correct = answers.filter(({ text, sample }) => grade(grader, text, sample)).length;
  return { accuracy: correct / samples.length, count: samples.length };
}
