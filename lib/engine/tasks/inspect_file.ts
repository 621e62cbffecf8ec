// What an uploaded file holds, or why it cannot be read.

import { InvalidFile } from "../../errors.ts";
import type { InspectFileResult, InspectFileTask } from "../messages.ts";
import type { Texts } from "../text/messages.ts";

export async function inspectFile(
  texts: Texts,
  { file }: InspectFileTask,
): Promise<InspectFileResult> {
  try {
    return { ...await texts.call("inspect_file", { file }), error: null };
  } catch (error) {
    if (!(error instanceof InvalidFile)) throw error;
    return { samples: 0, labelled: 0, error: error.message };
  }
}
