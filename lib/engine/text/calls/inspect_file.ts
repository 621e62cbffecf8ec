// What an uploaded file holds. @throws {InvalidFile} when it cannot be read

import type { TextCall } from "../call.ts";
import { readFile } from "../data_sets.ts";
import type { TextCalls } from "../messages.ts";

type Inspection = TextCalls["inspect_file"];

export async function inspectFile(
  { file }: Inspection["args"],
  call: TextCall,
): Promise<Inspection["result"]> {
  const samples = await readFile(file, call);
  const labelled = samples.filter(({ system }) => system !== null).length;
  return { samples: samples.length, labelled };
}
