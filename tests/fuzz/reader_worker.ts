// A reader of files in a Worker of its own, where a test can see it crash, loop or grow. Each question
// is answered by what the reader gave or by the error that it threw.

import { readDataset } from "../../lib/data/dataset.ts";

export interface Question {
  path: string;
  filename: string;
}

export type Answer = { records: number } | { error: string; message: string };

self.onmessage = async ({ data: { path, filename } }: MessageEvent<Question>) => {
  let answer: Answer;
  try {
    answer = { records: (await readDataset(path, filename)).length };
  } catch (error) {
    const { name, message } = error as Error;
    answer = { error: name, message };
  }
  // A rejection that nobody awaits is reported before the next turn of the event loop ends.
  setTimeout(() => self.postMessage(answer));
};
