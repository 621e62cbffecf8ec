// What every phase of a training trains on, rendered before the first step, so that data a late phase
// cannot use is refused before an early one has trained for hours; and the scores of a GRPO phase's
// completions.

import {
  promptPositions,
  type RenderedSample,
  renderPrompts,
  renderSamples,
} from "../../../data/render.ts";
import type { Sample } from "../../../data/record.ts";
import { InvalidRequest } from "../../../errors.ts";
import type { ShownSample } from "../../../train/grpo_batches.ts";
import { phaseSamples } from "../../../train/phase.ts";
import { checkRewards, scoreCompletion } from "../../../train/rewards.ts";
import type { GrpoSettings, PhaseSettings, SftSettings } from "../../../train/settings.ts";
import type { TextCall } from "../call.ts";
import type { TextCalls } from "../messages.ts";
import { type ModelTexts, modelTexts } from "../models.ts";
import { rowsOf } from "../rows.ts";
import { showSample } from "../shown.ts";
import { samplesStage } from "../stage.ts";
import { samplesOfSet } from "../task_state.ts";

type Render = TextCalls["render_phases"];
type Validation = TextCalls["render_validation"];
type Score = TextCalls["score_completions"];

/** Each phase's samples as tokens. @throws {InvalidRequest} naming the phase that cannot use them. */
export async function renderPhases(
  { model, phases }: Render["args"],
  call: TextCall,
): Promise<Render["result"]> {
  const texts = await modelTexts(model, call);
  const samples = samplesOfSet(call.state, "train");
  for (const [index, settings] of phases.entries()) {
    const chosen = chosenSamples(samples, settings, index);
    call.begin(samplesStage(call.limits, `render the samples of phase ${index + 1}`));
    const rendered = atPhase(
      index,
      () =>
        settings.kind === "sft"
          ? sftSamples(texts, chosen, settings, call)
          : grpoPrompts(texts, chosen, settings, call),
    );
    for (const rows of rowsOf(index, rendered)) call.sendRows(rows);
    if (settings.kind === "grpo") {
      const { tokenizer } = texts;
      call.state.phases.set(index, { settings, samples: chosen, tokenizer });
    }
  }
  return { eosTokens: [...texts.tokenizer.eosTokens] };
}

/**
 * Of the validation file, what each SFT phase is measured on.
 * @throws {InvalidRequest} when a phase has no sample there or one that it cannot use.
 */
export async function renderValidation(
  { model, phases }: Validation["args"],
  call: TextCall,
): Promise<Validation["result"]> {
  const texts = await modelTexts(model, call);
  const samples = samplesOfSet(call.state, "validation");
  call.begin(samplesStage(call.limits, "render the samples of the validation file"));
  for (const [index, settings] of phases.entries()) {
    if (settings.kind !== "sft") continue;
    try {
      const chosen = chosenSamples(samples, settings, index);
      const rendered = sftSamples(texts, chosen, settings, call);
      for (const rows of rowsOf(index, rendered)) call.sendRows(rows);
    } catch (error) {
      if (!(error instanceof InvalidRequest)) throw error;
      const message = `Cannot use the validation file: ${error.message}`;
      throw new InvalidRequest(message, "validation_file", error.code);
    }
  }
  return {};
}

/** Runs `render`; a setting that it refuses is named with its phase. */
function atPhase<T>(index: number, render: () => T): T {
  try {
    return render();
  } catch (error) {
    if (!(error instanceof InvalidRequest && error.param?.startsWith("max_"))) throw error;
    throw new InvalidRequest(error.message, `phases[${index}].${error.param}`, error.code);
  }
}

function chosenSamples(samples: Sample[], settings: PhaseSettings, index: number): Sample[] {
  const chosen = phaseSamples(samples, settings);
  if (chosen.length > 0) return chosen;
  const labels = samples.filter(({ system }) => system !== null).length;
  throw new InvalidRequest(
    `Cannot train phase ${index + 1} (${settings.kind}) on ${settings.data}: none of ` +
      `${samples.length} samples is labelled so (${labels} have a label). Classify the file, ` +
      'label it, or use data "all".',
    `phases[${index}].data`,
    "one_sided_data",
  );
}

function sftSamples(
  { config, tokenizer }: ModelTexts,
  chosen: Sample[],
  { max_length: maxLength }: SftSettings,
  { progress }: TextCall,
): RenderedSample[] {
  return renderSamples(chosen, tokenizer, {
    maxLength,
    positions: config.maxPositions,
    onSample: progress,
  }).samples;
}

function grpoPrompts(
  { config, tokenizer }: ModelTexts,
  chosen: Sample[],
  settings: GrpoSettings,
  { progress }: TextCall,
): RenderedSample[] {
  checkRewards(settings.rewards, chosen);
  const completion = settings.max_completion_length;
  return renderPrompts(chosen, tokenizer, {
    maxPromptLength: settings.max_prompt_length,
    positions: promptPositions(config, completion, "max_completion_length"),
    systemPrompt: settings.system_prompt,
    onSample: progress,
  }).samples.map((tokens) => ({ tokens, promptLength: tokens.length }));
}

/** Completions to text, and their rewards. @throws {NumericError} when a sum of rewards is no number. */
export function scoreCompletions(
  { phase, completions }: Score["args"],
  call: TextCall,
): Score["result"] {
  const { settings, samples, tokenizer } = call.state.phases.get(phase)!;
  call.begin(samplesStage(call.limits, `score the completions of phase ${phase + 1}`));
  const shown = new Map<number, ShownSample>();
  return completions.map(({ prompt, tokens }) => {
    call.progress(prompt + 1);
    const sample = samples[prompt];
    const text = tokenizer.decode(tokens, { skipSpecial: true });
    const { total, each } = scoreCompletion(settings.rewards, text, sample, {
      tokens: tokens.length,
    });
    if (!shown.has(prompt)) shown.set(prompt, showSample(sample));
    return { text, reward: total, rewards: each, sample: shown.get(prompt)! };
  });
}
