// Reads a task's data set, or several into one, each with its label.

import type { Sample } from "../../../data/record.ts";
import type { TextCall } from "../call.ts";
import { readFile } from "../data_sets.ts";
import type { TextCalls } from "../messages.ts";

type Read = TextCalls["read_samples"];

export async function readSamples(
  { set, files }: Read["args"],
  call: TextCall,
): Promise<Read["result"]> {
  const samples: Sample[] = [];
  for (const { file, system, param } of files) {
    for (const sample of await readFile(file, call, param)) {
      samples.push(system === null ? sample : { ...sample, system });
    }
  }
  call.state.sets.set(set, samples);
  return { samples: samples.length };
}
