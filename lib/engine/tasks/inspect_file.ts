// What an uploaded file holds, or why it cannot be read.

import { readDataset } from "../../data/dataset.ts";
import { InvalidFile } from "../../errors.ts";
import type { TaskContext } from "../context.ts";
import type { InspectFileResult, InspectFileTask } from "../messages.ts";

export async function inspectFile(
  _context: TaskContext,
  { file }: InspectFileTask,
): Promise<InspectFileResult> {
  try {
    const samples = await readDataset(file.path, file.filename);
    const labelled = samples.filter(({ system }) => system !== null).length;
    return { samples: samples.length, labelled, error: null };
  } catch (error) {
    if (!(error instanceof InvalidFile)) throw error;
    return { samples: 0, labelled: 0, error: error.message };
  }
}
