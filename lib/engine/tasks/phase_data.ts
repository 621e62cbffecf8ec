// What every phase of a training trains on, rendered by a text worker before the first step, so that data
// a late phase cannot use is refused before an early one has trained for hours.

import type { RenderedSample } from "../../data/render.ts";
import type { GrpoPrompt } from "../../train/grpo_batches.ts";
import type { GrpoSettings, PhaseSettings, SftSettings } from "../../train/settings.ts";
import type { ModelReference } from "../messages.ts";
import type { Texts } from "../text/messages.ts";
import { collectRows } from "../text/rows.ts";

export type PhaseData =
  | { kind: "sft"; settings: SftSettings; samples: RenderedSample[] }
  | { kind: "grpo"; settings: GrpoSettings; samples: GrpoPrompt[] };

/** Each phase's samples as tokens, and the tokens that end a completion. @throws {InvalidRequest} naming the phase that cannot use its samples. */
export async function phaseData(
  texts: Texts,
  { id, path }: ModelReference,
  phases: PhaseSettings[],
): Promise<{ data: PhaseData[]; eosTokens: number[] }> {
  const { parts, onRows } = collectRows(phases.length);
  const model = { id, path };
  const { eosTokens } = await texts.call("render_phases", { model, phases }, { onRows });
  const data = phases.map((settings, index): PhaseData =>
    settings.kind === "sft"
      ? { kind: "sft", settings, samples: parts[index] }
      : { kind: "grpo", settings, samples: parts[index].map(toPrompt) }
  );
  return { data, eosTokens };
}

function toPrompt({ tokens }: RenderedSample, number: number): GrpoPrompt {
  return { number, tokens };
}

/** Of the validation file, what each SFT phase is measured on; null for the others. */
export async function validationData(
  texts: Texts,
  { id, path }: ModelReference,
  phases: PhaseSettings[],
): Promise<(RenderedSample[] | null)[]> {
  const { parts, onRows } = collectRows(phases.length);
  const model = { id, path };
  await texts.call("render_validation", { model, phases }, { onRows });
  return phases.map(({ kind }, index) => kind === "sft" ? parts[index] : null);
}
