// Labels a data set's samples by the votes of teachers and writes classified.jsonl. Servers are asked from
// here; a model of this server is asked through the engine, which knows its replies as tokens only.

import { toRecord, writeJsonLines } from "../../../data/dataset.ts";
import { InvalidRequest } from "../../../errors.ts";
import { classify as classifySamples } from "../../../par/classify.ts";
import { httpTeacher, type Teacher } from "../../../par/teachers.ts";
import { deriveSeed } from "../../../seeds.ts";
import { progressOf } from "../../context.ts";
import type { ModelReference } from "../../messages.ts";
import type { TextCall } from "../call.ts";
import type { TextCalls } from "../messages.ts";
import { modelTexts } from "../models.ts";
import { samplesStage } from "../stage.ts";
import { samplesOfSet } from "../task_state.ts";

type Classify = TextCalls["classify"];

/** Prompts a local teacher answers side by side. */
const batchSize = 32;
/** Room for one word and what a small model puts around it. */
const replyTokens = 32;

export async function classify(
  { settings, access, outputFolder }: Classify["args"],
  call: TextCall,
): Promise<Classify["result"]> {
  const samples = samplesOfSet(call.state, "train");
  const teachers = settings.teachers.map((teacher, index): Teacher => {
    const param = `teachers[${index}]`;
    const { name, temperature } = teacher;
    const local = access.localTeachers.get(name);
    if (local) return localTeacher(call, { name, param, model: local, temperature });
    const { allowedHosts } = access;
    const apiKey = access.apiKeys.get(name);
    const { concurrency } = settings;
    const http = httpTeacher(teacher, { param, allowedHosts, apiKey, concurrency });
    return { ...http, voteAll: (...asked) => call.waitFor(http.voteAll(...asked)) };
  });
  call.begin(samplesStage(call.limits, "classify the samples"));
  const { samples: classified, ...summary } = await classifySamples(samples, teachers, settings, {
    onProgress: progressOf(call, "classify", "votes"),
  });
  call.begin(samplesStage(call.limits, "write the classified samples"));
  function* records() {
    for (const [i, sample] of samples.entries()) {
      call.progress(i + 1);
      yield toRecord(sample, { ...classified[i] });
    }
  }
  await writeJsonLines(`${outputFolder}/classified.jsonl`, records());
  call.state.sets.set(
    "train",
    samples.map((sample, i) => {
      const { system } = classified[i];
      return { ...sample, system: system === "undecided" ? null : system };
    }),
  );
  return { file: "classified.jsonl", ...summary };
}

/** A model of this server as a teacher: its replies come in batches. */
function localTeacher(
  call: TextCall,
  { name, param, model, temperature }: {
    name: string;
    param: string;
    model: ModelReference;
    temperature: number;
  },
): Teacher {
  return {
    name,
    local: true,
    async voteAll(prompts, seed, onReply) {
      const { tokenizer, config: { maxPositions } } = await modelTexts(model, call);
      call.begin(samplesStage(call.limits, `render the questions to teacher "${name}"`));
      const longest = maxPositions - replyTokens;
      const encoded = prompts.map((prompt) => {
        call.progress();
        const tokens = tokenizer.encodeChat(prompt, { addGenerationPrompt: true, upTo: longest });
        if (tokens.length <= longest) return Uint32Array.from(tokens);
        throw new InvalidRequest(
          `Cannot ask teacher "${name}": a sample's question has at least ${tokens.length} tokens, ` +
            `${model.id} takes ${longest} and the reply. Shorten or drop the sample, or ask another ` +
            "teacher.",
          param,
          "context_length_exceeded",
        );
      });
      const replies: string[] = [];
      for (let first = 0; first < encoded.length; first += batchSize) {
        const sampled = await call.waitFor(call.askTeacher({
          model,
          prompts: encoded.slice(first, first + batchSize),
          maxNewTokens: replyTokens,
          temperature,
          seed: deriveSeed(seed, "batch", first),
          eosTokens: [...tokenizer.eosTokens],
        }));
        for (const tokens of sampled) {
          const reply = tokenizer.decode(tokens, { skipSpecial: true });
          call.progress();
          onReply?.(replies.length, reply);
          replies.push(reply);
        }
      }
      return replies;
    },
  };
}
