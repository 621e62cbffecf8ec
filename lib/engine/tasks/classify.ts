// Labels a file's samples by the votes of teachers: local models of this server, which take turns on
// the GPU, and OpenAI-compatible servers, which are asked side by side.

import { readDataset, toRecord, writeJsonLines } from "../../data/dataset.ts";
import type { Message, Sample } from "../../data/record.ts";
import { Cancelled } from "../../errors.ts";
import { generate } from "../../model/generate.ts";
import { type Classification, classify as classifySamples } from "../../par/classify.ts";
import type { ClassifySettings } from "../../par/settings.ts";
import { httpTeacher, type Teacher } from "../../par/teachers.ts";
import { deriveSeed } from "../../seeds.ts";
import { type GpuContext, progressOf } from "../context.ts";
import type { ClassifyResult, ClassifyTask, ModelReference } from "../messages.ts";
import { withPolicy } from "../policy.ts";

/** Prompts a local teacher answers side by side. */
const batchSize = 32;
/** Room for one word and what a small model puts around it. */
const replyTokens = 32;

export async function classify(
  context: GpuContext,
  task: ClassifyTask,
): Promise<ClassifyResult> {
  const samples = await readDataset(task.file!.path, task.file!.filename);
  const { result } = await classifyFile(context, task, samples, task.request, task.outputFolder);
  return result;
}

/** What a task needs to reach its teachers. */
type TeacherAccess = Pick<ClassifyTask, "localTeachers" | "apiKeys" | "allowedHosts">;

/** Labels samples and writes classified.jsonl; answers the result and the labelled samples. */
export async function classifyFile(
  context: GpuContext,
  access: TeacherAccess,
  samples: Sample[],
  settings: Omit<ClassifySettings, "file" | "samples">,
  outputFolder: string,
): Promise<{ result: ClassifyResult; labelled: Sample[] }> {
  const cancelled = new AbortController();
  const watch = setInterval(() => {
    try {
      context.checkCancelled();
    } catch (error) {
      cancelled.abort(error);
    }
  }, 200);
  let found: Classification;
  try {
    found = await classifySamples(samples, teachersOf(context, access, settings), settings, {
      onProgress: progressOf(context, "classify", "votes"),
      signal: cancelled.signal,
    });
  } finally {
    clearInterval(watch);
  }
  await writeJsonLines(
    `${outputFolder}/classified.jsonl`,
    samples.map((sample, i) => toRecord(sample, { ...found.samples[i] })),
  );
  const { samples: classified, ...summary } = found;
  return {
    result: { file: "classified.jsonl", ...summary },
    labelled: samples.map((sample, i) => {
      const { system } = classified[i];
      return { ...sample, system: system === "undecided" ? null : system };
    }),
  };
}

function teachersOf(
  context: GpuContext,
  { localTeachers, apiKeys, allowedHosts }: TeacherAccess,
  { teachers, concurrency }: Omit<ClassifySettings, "file" | "samples">,
): Teacher[] {
  return teachers.map((teacher, index) => {
    const local = localTeachers.get(teacher.name);
    if (local) return localTeacher(context, teacher.name, local, teacher.temperature);
    const apiKey = apiKeys.get(teacher.name);
    return httpTeacher(teacher, { param: `teachers[${index}]`, allowedHosts, apiKey, concurrency });
  });
}

/** A model of this server as a teacher: its replies come in batches. */
function localTeacher(
  context: GpuContext,
  name: string,
  reference: ModelReference,
  temperature: number,
): Teacher {
  const { gpu, turns, checkCancelled } = context;
  return {
    name,
    local: true,
    voteAll: (prompts: Message[][], seed, onReply, signal) =>
      withPolicy(context, reference, async (policy) => {
        const { tokenizer, config } = policy.source;
        const encoded = prompts.map((prompt) =>
          Uint32Array.from(tokenizer.encodeChat(prompt, { addGenerationPrompt: true }))
        );
        const replies: string[] = [];
        for (let first = 0; first < encoded.length; first += batchSize) {
          if (signal?.aborted) throw new Cancelled("Cancelled by request.");
          const sampled = await generate(gpu, policy, {
            prompts: encoded.slice(first, first + batchSize),
            completionsPerPrompt: 1,
            maxNewTokens: replyTokens,
            temperature,
            topK: 0,
            topP: 1,
            minP: 0,
            seed: deriveSeed(seed, "batch", first),
            eosTokens: config.eosTokens,
          }, { turn: turns.take, checkCancelled });
          for (const { tokens } of sampled) {
            const reply = tokenizer.decode([...tokens], { skipSpecial: true });
            onReply?.(replies.length, reply);
            replies.push(reply);
          }
        }
        return replies;
      }),
  };
}
