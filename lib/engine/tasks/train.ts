// A training job from samples to an adapter: classify where asked, partition, then the phases one
// after the other on one set of LoRA elements. Every phase moves only its own active elements, and at
// the end that is checked bit by bit.

import { readDataset } from "../../data/dataset.ts";
import { renderPrompts, renderSamples } from "../../data/render.ts";
import type { Sample } from "../../data/record.ts";
import { InvalidRequest } from "../../errors.ts";
import { type Adapter, releaseAdapter, uploadAdapter } from "../../lora/adapter.ts";
import { writeAdapter } from "../../lora/adapter_file.ts";
import type { Policy } from "../../model/pass.ts";
import type { ModelSource } from "../../model/source.ts";
import { answerAll } from "../../train/evaluate.ts";
import { checkGrader, grade } from "../../train/grade.ts";
import { trainGrpo } from "../../train/grpo.ts";
import { createOptimizer } from "../../train/optimizer.ts";
import { type PhaseContext, type PhaseResult, phaseSamples } from "../../train/phase.ts";
import { checkRewards } from "../../train/rewards.ts";
import type { PhaseSettings } from "../../train/settings.ts";
import { trainSft } from "../../train/sft.ts";
import { progressOf, type TaskContext } from "../context.ts";
import type { TrainPlan, TrainResult, TrainTask } from "../messages.ts";
import { classifyFile } from "./classify.ts";
import { planTraining } from "./plan_training.ts";
import { activeBits, phaseElements, type StartingPoint, startingPoint } from "./starting_point.ts";

export function train(context: TaskContext, task: TrainTask): Promise<TrainResult | TrainPlan> {
  const { gpu, models, turns } = context;
  return models.with(task.model.path, async ({ source, decoder }) => {
    const read = await readDataset(task.file.path, task.file.filename);
    if (task.dryRun) return planTraining(context, source, task, read);
    const samples = task.request.classify
      ? (await classifyFile(context, task, read, {
        ...task.request.classify,
        target_model: task.model.id,
      }, task.outputFolder)).labelled
      : read;
    checkPhases(task, samples);
    const start = await startingPoint(context, task, { source, decoder }, samples);
    const adapter = uploadAdapter(gpu, start.layout, start.phi, {
      scale: start.scale,
      trainable: true,
      residual: start.residual ?? undefined,
    });
    try {
      return await trainPhases(context, task, { source, decoder, adapter, start, samples });
    } finally {
      releaseAdapter(gpu, adapter);
      if (start.active) gpu.release(start.active);
    }
  }, { turns, onProgress: progressOf(context, "loading", "tensors") });
}

/** What the phases of one job share. */
interface Training {
  source: ModelSource;
  decoder: Policy["decoder"];
  adapter: Adapter;
  start: StartingPoint;
  samples: Sample[];
}

async function trainPhases(
  context: TaskContext,
  task: TrainTask,
  training: Training,
): Promise<TrainResult> {
  const { gpu } = context;
  const { request, outputFolder } = task;
  const { adapter, start } = training;
  const phases: TrainResult["phases"] = [];
  const evaluations: TrainResult["evaluations"] = [];

  for (const [index, settings] of request.phases.entries()) {
    const begin = performance.now();
    const { result, elements } = await trainPhase(context, task, training, settings, index);
    phases.push({
      kind: settings.kind,
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
  const dropout = Math.max(...request.phases.map(({ lora_dropout }) => lora_dropout));
  await writeAdapter(`${outputFolder}/adapter`, task.model.baseId, { ...start, phi }, dropout);
  return {
    adapterFolder: "adapter",
    partitionFolder: start.madePartition ? "partition" : null,
    classifiedFile: request.classify ? "classified.jsonl" : null,
    phases,
    evaluations,
    inactive_elements_changed: activeWords
      ? changedInactive(start.phi, phi, new Uint8Array(activeWords), moved)
      : 0,
  };
}

/** Elements that no phase may move and whose bits are not those of the start. Always 0, or a bug. */
function changedInactive(
  start: Float32Array<ArrayBuffer>,
  end: Float32Array<ArrayBuffer>,
  active: Uint8Array,
  moved: number,
): number {
  const before = new Uint32Array(start.buffer, start.byteOffset, start.length);
  const after = new Uint32Array(end.buffer, end.byteOffset, end.length);
  let changed = 0;
  for (let i = 0; i < before.length; i++) {
    if ((active[i] & moved) === 0 && before[i] !== after[i]) changed++;
  }
  return changed;
}

/** One phase, from its samples to its last step. */
async function trainPhase(
  context: TaskContext,
  task: TrainTask,
  { source, decoder, adapter, start, samples }: Training,
  settings: PhaseSettings,
  index: number,
): Promise<{ result: PhaseResult; elements: number }> {
  const { gpu, turns } = context;
  const active = await phaseElements(gpu, start, settings, `phases[${index}].activate`);
  const optimizer = createOptimizer(
    gpu,
    { phi: adapter.phi, grad: adapter.grad! },
    active,
    settings,
  );
  const phase: PhaseContext = {
    gpu,
    decoder,
    adapter,
    optimizer,
    seed: task.request.seed + index,
    turn: turns.take,
    checkCancelled: context.checkCancelled,
    onProgress: progressOf(context, settings.kind, "steps"),
    onMetrics: (step, values) =>
      context.emit({ type: "metrics", phase: settings.kind, step, values }),
    onSample: (sample) => context.emit({ type: "sample", sample }),
  };
  const chosen = phaseSamples(samples, settings);
  try {
    const result = settings.kind === "sft"
      ? await trainSft(
        phase,
        renderSamples(chosen, source.tokenizer, { maxLength: settings.max_length }).samples,
        settings,
      )
      : await trainGrpo(
        phase,
        renderPrompts(chosen, source.tokenizer, {
          maxPromptLength: settings.max_prompt_length,
          systemPrompt: settings.system_prompt,
        }).samples.map((tokens, i) => ({ tokens, sample: chosen[i] })),
        source.tokenizer,
        settings,
      );
    return { result, elements: active.count };
  } finally {
    optimizer.release();
    gpu.release(active.indices);
  }
}

/** Refuses data that some phase cannot use before anything is trained. */
function checkPhases({ request }: TrainTask, samples: Sample[]): void {
  for (const [index, settings] of request.phases.entries()) {
    const chosen = phaseSamples(samples, settings);
    if (chosen.length === 0) {
      const labels = samples.filter(({ system }) => system !== null).length;
      throw new InvalidRequest(
        `Cannot train phase ${index + 1} (${settings.kind}) on ${settings.data}: none of ` +
          `${samples.length} samples is labelled so (${labels} have a label). Classify the file, ` +
          'label it, or use data "all".',
        `phases[${index}].data`,
        "one_sided_data",
      );
    }
    if (settings.kind === "grpo") checkRewards(settings.rewards, chosen);
  }
}

/** Accuracy as it is now on the evaluation file, greedily. */
async function evaluateNow(
  context: TaskContext,
  task: TrainTask,
  { source, decoder, adapter }: Training,
): Promise<{ accuracy: number; count: number }> {
  const { grader, limit, max_tokens: maxTokens } = task.request.evaluate!;
  const { path, filename } = task.evaluateFile!;
  const samples = (await readDataset(path, filename)).slice(0, limit);
  checkGrader(grader, samples);
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
