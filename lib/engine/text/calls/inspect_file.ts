// What an uploaded file holds, or why it cannot be read.

import { InvalidFile } from "../../../errors.ts";
import type { TextCall } from "../call.ts";
import type { TextCalls } from "../messages.ts";
import { readFile } from "../data_sets.ts";

type Inspection = TextCalls["inspect_file"];

export async function inspectFile(
  { file }: Inspection["args"],
  call: TextCall,
): Promise<Inspection["result"]> {
  try {
    const samples = await readFile(file, call);
    const labelled = samples.filter(({ system }) => system !== null).length;
    return { samples: samples.length, labelled, error: null };
  } catch (error) {
    if (!(error instanceof InvalidFile)) throw error;
    return { samples: 0, labelled: 0, error: error.message };
  }
}
