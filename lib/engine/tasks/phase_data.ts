// What every phase of a training trains on, rendered before the first step, so that data a late phase
// cannot use is refused before an early one has trained for hours.

import {
  promptPositions,
  type RenderedSample,
  renderPrompts,
  renderSamples,
} from "../../data/render.ts";
import type { Sample } from "../../data/record.ts";
import { InvalidRequest } from "../../errors.ts";
import type { ModelSource } from "../../model/source.ts";
import type { GrpoPrompt } from "../../train/grpo_batches.ts";
import { phaseSamples } from "../../train/phase.ts";
import { checkRewards } from "../../train/rewards.ts";
import type { GrpoSettings, PhaseSettings, SftSettings } from "../../train/settings.ts";

export type PhaseData =
  | { kind: "sft"; settings: SftSettings; samples: RenderedSample[] }
  | { kind: "grpo"; settings: GrpoSettings; samples: GrpoPrompt[] };

/** Each phase's samples as tokens. @throws {InvalidRequest} naming the phase that cannot use them. */
export function phaseData(
  source: ModelSource,
  samples: Sample[],
  phases: PhaseSettings[],
): PhaseData[] {
  return phases.map((settings, index) =>
    atPhase(index, () => {
      const chosen = chosenSamples(samples, settings, index);
      return settings.kind === "sft"
        ? { kind: "sft", settings, samples: sftSamples(source, chosen, settings) }
        : { kind: "grpo", settings, samples: grpoPrompts(source, chosen, settings) };
    })
  );
}

/**
 * Of the validation file, what each SFT phase is measured on; null for the others.
 * @throws {InvalidRequest} when a phase has no sample there or one that it cannot use.
 */
export function validationData(
  source: ModelSource,
  samples: Sample[],
  phases: PhaseSettings[],
): (RenderedSample[] | null)[] {
  return phases.map((settings, index) => {
    if (settings.kind !== "sft") return null;
    try {
      return sftSamples(source, chosenSamples(samples, settings, index), settings);
    } catch (error) {
      if (!(error instanceof InvalidRequest)) throw error;
      const message = `Cannot use the validation file: ${error.message}`;
      throw new InvalidRequest(message, "validation_file", error.code);
    }
  });
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
  { config, tokenizer }: ModelSource,
  chosen: Sample[],
  { max_length: maxLength }: SftSettings,
): RenderedSample[] {
  return renderSamples(chosen, tokenizer, { maxLength, positions: config.maxPositions }).samples;
}

function grpoPrompts(
  { config, tokenizer }: ModelSource,
  chosen: Sample[],
  settings: GrpoSettings,
): GrpoPrompt[] {
  checkRewards(settings.rewards, chosen);
  const completion = settings.max_completion_length;
  return renderPrompts(chosen, tokenizer, {
    maxPromptLength: settings.max_prompt_length,
    positions: promptPositions(config, completion, "max_completion_length"),
    systemPrompt: settings.system_prompt,
  }).samples.map((tokens, i) => ({ tokens, sample: chosen[i] }));
}
