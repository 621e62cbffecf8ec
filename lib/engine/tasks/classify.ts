// Labels a file's samples by the votes of teachers. A text worker asks them and reads their replies; local
// models answer it here, in turns on the GPU.

import { generate } from "../../model/generate.ts";
import type { GpuContext, TaskContext } from "../context.ts";
import type { ClassifyResult, ClassifyTask } from "../messages.ts";
import { withPolicy } from "../policy.ts";
import type { TeacherAsk, TextCalls } from "../text/messages.ts";

export async function classify(context: TaskContext, task: ClassifyTask): Promise<ClassifyResult> {
  const { file, request: settings, outputFolder, localTeachers, apiKeys, allowedHosts } = task;
  const files = [{ file: file!, system: null, param: "file" }];
  await context.texts.call("read_samples", { set: "train", files });
  const access = { localTeachers, apiKeys, allowedHosts };
  return await classifySamples(context, { settings, access, outputFolder });
}

/** Labels the samples that the task has read and writes classified.jsonl. */
export function classifySamples(
  context: TaskContext,
  args: TextCalls["classify"]["args"],
): Promise<ClassifyResult> {
  return context.texts.call("classify", args, {
    onAsk: async (ask) => await replies(await context.device(), ask),
  });
}

/** A local teacher's replies to some prompts. */
function replies(context: GpuContext, ask: TeacherAsk): Promise<Uint32Array[]> {
  const { gpu, turns, checkCancelled } = context;
  const { model, prompts, maxNewTokens, temperature, seed, eosTokens } = ask;
  return withPolicy(context, model, async (policy) => {
    const completions = await generate(gpu, policy, {
      prompts,
      completionsPerPrompt: 1,
      maxNewTokens,
      temperature,
      topK: 0,
      topP: 1,
      minP: 0,
      seed,
      eosTokens,
    }, { turn: turns.take, checkCancelled });
    return completions.map(({ tokens }) => tokens);
  });
}
