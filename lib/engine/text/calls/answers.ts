// Prompts of a data set that is to be answered, the judgement of the answers, and the file of them all.

import { writeJsonLines } from "../../../data/dataset.ts";
import { promptPositions, renderPrompts } from "../../../data/render.ts";
import { checkGrader, grade } from "../../../train/grade.ts";
import { checkRewards, scoreCompletion } from "../../../train/rewards.ts";
import type { TextCall } from "../call.ts";
import type { TextCalls } from "../messages.ts";
import { modelTexts } from "../models.ts";
import { rowsOf } from "../rows.ts";
import { samplesStage } from "../stage.ts";
import { showRecord } from "../shown.ts";
import { type JudgedAnswer, samplesOfSet } from "../task_state.ts";

type Prepare = TextCalls["render_prompts"];
type Judge = TextCalls["judge_answers"];
type Write = TextCalls["write_answers"];

/** Answers whose texts the job's events show. */
const shownAnswers = 20;

/**
 * The prompts of the samples that are to be answered in `maxTokens`.
 * @throws {InvalidRequest} when one leaves the model no room for that, or cannot be judged.
 */
export async function renderAnswerPrompts(
  { model, limit, maxTokens, systemPrompt, grader, rewards }: Prepare["args"],
  call: TextCall,
): Promise<Prepare["result"]> {
  const { tokenizer, config } = await modelTexts(model, call);
  const samples = samplesOfSet(call.state, "evaluate").slice(0, limit ?? undefined);
  call.begin(samplesStage(call.limits, "render the samples to evaluate"));
  if (grader) checkGrader(grader, samples);
  if (rewards) checkRewards(rewards, samples);
  const prompts = renderPrompts(samples, tokenizer, {
    maxPromptLength: Infinity,
    positions: promptPositions(config, maxTokens, "max_tokens"),
    systemPrompt,
    onSample: call.progress,
  }).samples.map((tokens) => ({ tokens, promptLength: tokens.length }));
  for (const rows of rowsOf(0, prompts)) call.sendRows(rows);
  call.state.judged = { samples, tokenizer, grader, rewards, answers: [] };
  return { eosTokens: [...tokenizer.eosTokens] };
}

/** Judges the answers to the prompts from number `first` on. */
export function judgeAnswers(
  { first, answers, keep }: Judge["args"],
  call: TextCall,
): Judge["result"] {
  const judged = call.state.judged!;
  const { samples, tokenizer, grader, rewards } = judged;
  call.begin(samplesStage(call.limits, "grade the answers"));
  let correct = 0;
  for (const [i, { tokens, truncated }] of answers.entries()) {
    call.progress(first + i + 1);
    const sample = samples[first + i];
    const text = tokenizer.decode(tokens, { skipSpecial: true });
    const score = rewards && scoreCompletion(rewards, text, sample, { tokens: tokens.length });
    // Without a grader an answer is right when it earns any reward at all.
    const isCorrect = grader ? grade(grader, text, sample) : score!.total > 0;
    if (isCorrect) correct++;
    if (!keep) continue;
    const judgement = {
      completion: text,
      tokens: tokens.length,
      truncated,
      correct: isCorrect,
      ...(score && { reward: score.total, rewards: score.each }),
    };
    if (judged.answers.length < shownAnswers) {
      // Twice, so that these come first and are not what is cut, and no field of the record's replaces them.
      const own = { phase: "evaluate", ...judgement };
      call.emit({ type: "sample", sample: showRecord({ ...own, ...sample.item, ...own }) });
    }
    judged.answers.push({ ...sample.item, ...judgement });
  }
  return { correct };
}

/** Writes the answers that were kept; the mean of each reward over them. */
export async function writeAnswers(
  { outputFolder }: Write["args"],
  call: TextCall,
): Promise<Write["result"]> {
  const { answers } = call.state.judged!;
  call.begin(samplesStage(call.limits, "write the answers"));
  function* records() {
    for (const [i, answer] of answers.entries()) {
      call.progress(i + 1);
      yield answer;
    }
  }
  await writeJsonLines(`${outputFolder}/answers.jsonl`, records());
  return { file: "answers.jsonl", rewards: meanRewards(answers) };
}

function meanRewards(answers: JudgedAnswer[]): Record<string, number> {
  const names = Object.keys(answers[0]?.rewards ?? {});
  const mean = (name: string) =>
    answers.reduce((sum, { rewards }) => sum + rewards![name], 0) / answers.length;
  return Object.fromEntries(names.map((name) => [name, mean(name)]));
}
