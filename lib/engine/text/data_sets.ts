// Data-set files as text workers read them, with a limit that grows with the file.

import { readDataset } from "../../data/dataset.ts";
import type { Sample } from "../../data/record.ts";
import { fileSize } from "../../model/positioned_file.ts";
import type { FileReference } from "../messages.ts";
import type { TextCall } from "./call.ts";
import { fileLimitMs } from "./stage.ts";

/** The samples of a file. @throws {InvalidFile} when it cannot be read. */
export async function readFile(
  { path, filename }: FileReference,
  call: TextCall,
  param = "file",
): Promise<Sample[]> {
  call.begin({
    doing: `read ${filename}`,
    source: "file",
    param,
    limitMs: fileLimitMs(call.limits, fileSize(path) ?? 0),
    advice: "It may be damaged: write it anew, as .jsonl if you can, or split it.",
  });
  return await readDataset(path, filename, { param });
}
