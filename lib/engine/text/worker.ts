// A text worker: a thread on which the user's texts are read, rendered, tokenized and judged, one call at
// a time. It may be ended at any moment, so it owns nothing but memory and what it is writing.

import { parentPort, workerData } from "node:worker_threads";
import { describeError, reviveError } from "../task_error.ts";
import type { TextCall } from "./call.ts";
import { judgeAnswers, renderAnswerPrompts, writeAnswers } from "./calls/answers.ts";
import { decodeChat, encodeChat } from "./calls/chat.ts";
import { classify } from "./calls/classify.ts";
import { describeModel } from "./calls/describe_model.ts";
import { inspectFile } from "./calls/inspect_file.ts";
import { renderPhases, renderValidation, scoreCompletions } from "./calls/phases.ts";
import { readSamples } from "./calls/read_samples.ts";
import { renderSystems } from "./calls/systems.ts";
import type {
  TextCalls,
  TextKind,
  TextReply,
  TextRequest,
  TextWorkerData,
  ToTextWorker,
} from "./messages.ts";
import { memoryOf } from "./rows.ts";
import { type Stage, stageError } from "./stage.ts";
import { newTaskState } from "./task_state.ts";

type Calls = {
  [K in TextKind]: (
    args: TextCalls[K]["args"],
    call: TextCall,
  ) => Promise<TextCalls[K]["result"]> | TextCalls[K]["result"];
};

const calls: Calls = {
  inspect_file: inspectFile,
  describe_model: describeModel,
  encode_chat: encodeChat,
  decode_chat: decodeChat,
  read_samples: readSamples,
  classify,
  render_phases: renderPhases,
  render_validation: renderValidation,
  render_systems: renderSystems,
  render_prompts: renderAnswerPrompts,
  judge_answers: judgeAnswers,
  write_answers: writeAnswers,
  score_completions: scoreCompletions,
};

const { limits, progress } = workerData as TextWorkerData;
const words = new Int32Array(progress);
let stage: Stage | null = null;

/** The local teacher that is asked; there is one at a time. */
let asked: PromiseWithResolvers<Uint32Array[]> | null = null;

const reply = (message: TextReply, memory: ArrayBuffer[] = []) =>
  parentPort!.postMessage(message, memory);

const fault = (message: string) => reply({ type: "fault", message });

function showProgress(item = 0): void {
  Atomics.store(words, 1, item);
  Atomics.add(words, 0, 1);
}

const call: TextCall = {
  limits,
  state: newTaskState(),
  begin(next) {
    stage = next;
    showProgress();
    reply({ type: "stage", stage });
  },
  progress: showProgress,
  async waitFor(others) {
    const alive = setInterval(showProgress, limits.sampleMs / 10);
    try {
      return await others;
    } finally {
      clearInterval(alive);
    }
  },
  emit: (event) => reply({ type: "event", event }),
  sendRows: (rows) => reply({ type: "rows", rows }, memoryOf(rows)),
  askTeacher(ask) {
    asked = Promise.withResolvers();
    reply({ type: "ask", ask });
    return asked.promise;
  },
};

async function answer(request: TextRequest): Promise<void> {
  stage = null;
  try {
    const work = calls[request.kind] as (args: unknown, call: TextCall) => unknown;
    const result = await work(request.args, call) as TextCalls[TextKind]["result"];
    // A rejection that nobody awaits is told of in the next turn, and belongs to this call.
    await new Promise((resolve) => setTimeout(resolve));
    reply({ type: "done", result });
  } catch (error) {
    reply({ type: "failed", error: describeError(error, fault), isBroken: false });
  } finally {
    showProgress();
  }
}

/** A rejection that nobody awaits, as of a damaged file's other columns: the call at work is to blame. */
addEventListener("unhandledrejection", (event) => {
  event.preventDefault();
  const what = event.reason instanceof Error ? event.reason.message : String(event.reason);
  const error = describeError(stage ? stageError(stage, what) : event.reason, fault);
  reply({ type: "failed", error, isBroken: true });
});

parentPort!.on("message", (message: ToTextWorker) => {
  if (message.kind === "teacher_reply") {
    if ("tokens" in message.reply) asked?.resolve(message.reply.tokens);
    else asked?.reject(reviveError(message.reply.error));
    return;
  }
  answer(message);
});
