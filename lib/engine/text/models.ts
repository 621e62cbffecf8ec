// Tokenizers and chat templates of a text worker, kept for the next call. A model whose files have changed
// on disk is opened anew.

import type { ModelConfig } from "../../model/config.ts";
import { modelVersion } from "../../model/model_files.ts";
import { openModel } from "../../model/open.ts";
import { fileSize } from "../../model/positioned_file.ts";
import type { ModelSource } from "../../model/source.ts";
import type { ChatTokenizer } from "../../model/tokenizer.ts";
import type { TaskEvent } from "../messages.ts";
import type { TextCall } from "./call.ts";
import type { TextModel } from "./messages.ts";
import { fileLimitMs } from "./stage.ts";

/** What a model has for texts, its weights left aside. */
export interface ModelTexts {
  config: ModelConfig;
  tokenizer: ChatTokenizer;
}

/** Tokenizers kept: one of 150,000 tokens takes about 100 MB. */
const maxKept = 3;
/** What a .gguf's token lists have at most, by its released models; a file's header does not say. */
const ggufListBytes = 32 * 2 ** 20;

/** By path, the least recently used first. */
const kept = new Map<string, ModelTexts & { version: string }>();

/** The tokenizer and sizes of a model. @throws {InvalidFile} when its files cannot be used. */
export async function modelTexts({ id, path }: TextModel, call: TextCall): Promise<ModelTexts> {
  const version = await modelVersion(path);
  let found = kept.get(path);
  if (found?.version !== version) {
    const { config, tokenizer } = await openFiles({ id, path }, call);
    found = { config, tokenizer, version };
    // Once for each worker, so once for a job, and a few times for all chats.
    if (!tokenizer.hasChatTemplate) call.emit(plainTemplateWarning(id));
  }
  kept.delete(path);
  kept.set(path, found);
  const [oldest] = kept.keys();
  if (kept.size > maxKept) kept.delete(oldest);
  return found;
}

function plainTemplateWarning(id: string): TaskEvent {
  const message =
    `The model "${id}" has no chat template, so conversations are written as "User: …" and ` +
    '"Assistant: …" paragraphs. For a base model that will do; a chat model knows another form: put its ' +
    "chat_template.jinja into its folder.";
  return { type: "log", level: "warning", message };
}

/** The same without a look at the files, where it was open: a chat goes on with what it began with. */
export async function keptTexts(model: TextModel, call: TextCall): Promise<ModelTexts> {
  return kept.get(model.path) ?? await modelTexts(model, call);
}

/** Opens a model's files for a moment: everything about it but its weights. */
export async function openFiles({ id, path }: TextModel, call: TextCall): Promise<ModelSource> {
  call.begin({
    doing: `open the model ${id}`,
    source: "file",
    param: "model",
    limitMs: fileLimitMs(call.limits, fileSize(`${path}/tokenizer.json`) ?? ggufListBytes),
    advice: "Its files may be damaged: copy them again.",
  });
  const source = await openModel(path);
  source.close();
  return source;
}
