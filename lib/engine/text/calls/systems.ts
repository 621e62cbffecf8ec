// A seeded choice of samples of each system, rendered, for the importance of a partition.

import { shuffledOrder } from "../../../data/pack.ts";
import { renderSamples } from "../../../data/render.ts";
import { type Sample, type System, systems } from "../../../data/record.ts";
import { InvalidRequest } from "../../../errors.ts";
import { deriveSeed } from "../../../seeds.ts";
import type { TextCall } from "../call.ts";
import type { TextCalls } from "../messages.ts";
import { modelTexts } from "../models.ts";
import { rowsOf } from "../rows.ts";
import { samplesStage } from "../stage.ts";
import { samplesOfSet } from "../task_state.ts";

type Systems = TextCalls["render_systems"];

/** @throws {InvalidRequest} when a system has no sample, or one cannot be used. */
export async function renderSystems(
  { model, settings }: Systems["args"],
  call: TextCall,
): Promise<Systems["result"]> {
  const { config, tokenizer } = await modelTexts(model, call);
  const samples = samplesOfSet(call.state, "train");
  const chosen = systems.map((system) => chooseSamples(samples, system, settings));
  call.begin(samplesStage(call.limits, "render the samples of the partition"));
  for (const [part, own] of chosen.entries()) {
    const { samples } = renderSamples(own, tokenizer, {
      maxLength: settings.max_length,
      positions: config.maxPositions,
      onSample: call.progress,
    });
    for (const rows of rowsOf(part, samples)) call.sendRows(rows);
  }
  return {};
}

function chooseSamples(
  samples: Sample[],
  system: System,
  { samples_per_system, seed }: Systems["args"]["settings"],
): Sample[] {
  const own = samples.filter((sample) => sample.system === system);
  if (own.length === 0) {
    const other = systems.find((name) => name !== system)!;
    throw new InvalidRequest(
      `Cannot partition: no sample is labelled ${system} (${samples.length} samples, ` +
        `${samples.filter((sample) => sample.system === other).length} of them ${other}). Both ` +
        "systems need samples; classify the file first or add some.",
      "file",
      "one_sided_data",
    );
  }
  const order = shuffledOrder(own.length, deriveSeed(seed, "examples", systems.indexOf(system)));
  return [...order.subarray(0, samples_per_system)].map((index) => own[index]);
}
