// Answers every sample of a file and grades the answers; all of them are kept.

import { readDataset } from "../../data/dataset.ts";
import { writeJsonLines } from "../../data/dataset.ts";
import { answerAll } from "../../train/evaluate.ts";
import { checkGrader, grade, wilsonInterval } from "../../train/grade.ts";
import { checkRewards, scoreCompletion } from "../../train/rewards.ts";
import { type GpuContext, progressOf } from "../context.ts";
import type { EvaluateResult, EvaluateTask } from "../messages.ts";
import { withPolicy } from "../policy.ts";

export function evaluate(context: GpuContext, task: EvaluateTask): Promise<EvaluateResult> {
  const { gpu, turns } = context;
  const { request, file, outputFolder } = task;
  return withPolicy(context, task.model, async (policy) => {
    const samples = (await readDataset(file.path, file.filename)).slice(0, request.limit);
    if (request.grader) checkGrader(request.grader, samples);
    if (request.rewards) checkRewards(request.rewards, samples);
    const answers = await answerAll(gpu, policy, policy.source.tokenizer, samples, {
      maxTokens: request.max_tokens,
      temperature: request.temperature,
      seed: request.seed,
      systemPrompt: request.system_prompt,
    }, {
      turn: turns.take,
      checkCancelled: context.checkCancelled,
      onAnswers: progressOf(context, "evaluate", "samples"),
    });
    const graded = answers.map(({ sample, text, tokens, truncated }) => {
      const score = request.rewards &&
        scoreCompletion(request.rewards, text, sample, { tokens });
      return {
        ...sample.item,
        completion: text,
        tokens,
        truncated,
        // Without a grader an answer is right when it earns any reward at all.
        correct: request.grader ? grade(request.grader, text, sample) : score!.total > 0,
        ...(score && { reward: score.total, rewards: score.each }),
      };
    });
    await writeJsonLines(`${outputFolder}/answers.jsonl`, graded);
    for (const answer of graded.slice(0, 20)) {
      context.emit({ type: "sample", sample: { phase: "evaluate", ...answer } });
    }
    const correct = graded.filter((answer) => answer.correct).length;
    return {
      accuracy: correct / graded.length,
      interval: wilsonInterval(correct, graded.length),
      count: graded.length,
      correct,
      rewards: meanRewards(graded.map(({ rewards }) => rewards ?? {})),
      file: "answers.jsonl",
    };
  });
}

function meanRewards(all: Record<string, number>[]): Record<string, number> {
  const names = Object.keys(all[0] ?? {});
  return Object.fromEntries(
    names.map((name) => [
      name,
      all.reduce((sum, rewards) => sum + rewards[name], 0) / all.length,
    ]),
  );
}
