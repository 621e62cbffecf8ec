// A reader of models and adapters in a Worker of its own: opens one, reads every tensor, encodes, decodes and
// renders, as the server does. Each question is answered by how much was read or by the error that it threw.

import { readTrainableAdapter } from "../../lib/lora/adapter_file.ts";
import { openModel } from "../../lib/model/open.ts";
import { whyUnusable } from "../../lib/model/usable.ts";
import type { ModelSource } from "../../lib/model/source.ts";
import type { Answer } from "./reader_worker.ts";

export interface ModelQuestion {
  /** A model's folder or file. */
  path: string;
  /** An adapter's folder besides, or null. */
  adapter: string | null;
}

const texts = [
  "",
  " Hello  world\n\n<|start|>the 123 they're 你好 😀\u200d\ufeff é\u0301 ▁a</s><s>",
  "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa \t \n ... !!! ",
  "x".repeat(2000),
];
const messages = [
  { role: "system", content: "Be brief.\n" },
  { role: "user", content: "  What is 7 + 8? " },
  { role: "assistant", content: "<think>\n7 + 8\n</think>\n\n15" },
  { role: "user", content: "Why?" },
];

async function readAll({ path, adapter }: ModelQuestion): Promise<number> {
  whyUnusable(path);
  let source: ModelSource | null = null;
  try {
    source = await openModel(path);
    if (adapter) return readTrainableAdapter(adapter, source).phi.length;
    let read = 0;
    for (const name of source.tensors.keys()) read += (await source.read(name)).bytes.length;
    const { tokenizer } = source;
    for (const text of texts) {
      const tokens = tokenizer.encode(text);
      tokenizer.decode(tokens);
      const stream = tokenizer.streamDecoder();
      for (const token of [...tokens, 0, 5, 255, 300]) stream.push(token);
      stream.flush();
      read += tokens.length;
    }
    return read + tokenizer.encodeChat(messages, { addGenerationPrompt: true }).length;
  } finally {
    source?.close();
  }
}

self.onmessage = async ({ data }: MessageEvent<ModelQuestion>) => {
  let answer: Answer;
  try {
    answer = { records: await readAll(data) };
  } catch (error) {
    const { name, message, stack } = error as Error;
    const expected = name === "InvalidFile" || name === "InvalidRequest";
    answer = { error: name, message: expected ? message : stack ?? message };
  }
  setTimeout(() => self.postMessage(answer));
};
