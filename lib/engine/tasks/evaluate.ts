// Answers every sample of a file and grades the answers; all of them are kept.

import { wilsonInterval } from "../../train/grade.ts";
import type { TaskContext } from "../context.ts";
import type { EvaluateResult, EvaluateTask } from "../messages.ts";
import { withPolicy } from "../policy.ts";
import { answerAndJudge, answerPrompts } from "./answer_prompts.ts";

export async function evaluate(context: TaskContext, task: EvaluateTask): Promise<EvaluateResult> {
  const { request, file, outputFolder } = task;
  const { max_tokens: maxTokens, temperature, seed } = request;
  const read = { file, system: null, param: "file" };
  const asked = await answerPrompts(context.texts, read, task.model, {
    limit: request.limit ?? null,
    maxTokens,
    systemPrompt: request.system_prompt,
    grader: request.grader ?? null,
    rewards: request.rewards ?? null,
  });
  const onGpu = await context.device();
  const correct = await withPolicy(
    onGpu,
    task.model,
    (policy) => answerAndJudge(onGpu, policy, asked, { maxTokens, temperature, seed, keep: true }),
  );
  const count = asked.prompts.length;
  return {
    accuracy: correct / count,
    interval: wilsonInterval(correct, count),
    count,
    correct,
    ...await context.texts.call("write_answers", { outputFolder }),
  };
}
