// Whether a model can be used, from the headers of its files: what `GET /v1/models` shows of every entry
// of the models folder. The same checks as opening it, but for the tokenizer's content; no weights, no
// token lists, at most a few megabytes read, and nothing that is no regular file is opened.

import { checkGgufModel } from "./gguf_model.ts";
import { checkHfFolder } from "./open.ts";
import { reason } from "./positioned_file.ts";

/** Why the model at this path (a Hugging Face folder or a .gguf file) cannot be used, or null. Never throws. */
export function whyUnusable(path: string): string | null {
  try {
    if (Deno.statSync(path).isDirectory) checkHfFolder(path);
    else checkGgufModel(path);
    return null;
  } catch (error) {
    return reason(error);
  }
}
