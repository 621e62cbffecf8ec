// The samples of an evaluation as prompts, and their answers to a text worker that judges them.

import { answerAll } from "../../train/evaluate.ts";
import type { Policy } from "../../model/pass.ts";
import { type GpuContext, progressOf } from "../context.ts";
import type { ModelReference } from "../messages.ts";
import type { LabelledFile, TextCalls, Texts } from "../text/messages.ts";
import { collectRows } from "../text/rows.ts";

export interface AnswerPrompts {
  prompts: Uint32Array[];
  /** Tokens that end an answer. */
  eosTokens: number[];
}

/** Reads a file and renders the prompts that are to be answered. @throws {InvalidRequest} {InvalidFile} */
export async function answerPrompts(
  texts: Texts,
  file: LabelledFile,
  { id, path }: ModelReference,
  settings: Omit<TextCalls["render_prompts"]["args"], "model">,
): Promise<AnswerPrompts> {
  await texts.call("read_samples", { set: "evaluate", files: [file] });
  const { parts: [samples], onRows } = collectRows(1);
  const args = { model: { id, path }, ...settings };
  const { eosTokens } = await texts.call("render_prompts", args, { onRows });
  return { prompts: samples.map(({ tokens }) => tokens), eosTokens };
}

/** Answers all prompts and has the answers judged; the number of right ones. */
export async function answerAndJudge(
  context: GpuContext,
  policy: Policy,
  { prompts, eosTokens }: AnswerPrompts,
  { keep, ...settings }: { maxTokens: number; temperature: number; seed: number; keep: boolean },
): Promise<number> {
  const { gpu, texts, turns, checkCancelled } = context;
  const onProgress = progressOf(context, "evaluate", "samples");
  let correct = 0;
  await answerAll(gpu, policy, prompts, { ...settings, eosTokens }, {
    turn: turns.take,
    checkCancelled,
    async onAnswers(first, answers) {
      const judged = await texts.call("judge_answers", {
        first,
        answers: answers.map(({ tokens, finished }) => ({ tokens, truncated: !finished })),
        keep,
      });
      correct += judged.correct;
      onProgress(first + answers.length, prompts.length);
    },
  });
  return correct;
}
