// A text worker: a thread on which the user's texts are read, rendered, tokenized and judged, one call at
// a time. It may be ended at any moment, so it owns nothing but memory and what it is writing.

import { parentPort, workerData } from "node:worker_threads";
import { describeError } from "../task_error.ts";
import type { TextCall } from "./call.ts";
import { decodeChat, encodeChat } from "./calls/chat.ts";
import { describeModel } from "./calls/describe_model.ts";
import { inspectFile } from "./calls/inspect_file.ts";
import type { TextCalls, TextKind, TextReply, TextRequest, TextWorkerData } from "./messages.ts";
import { type Stage, stageError } from "./stage.ts";

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
};

const { limits, progress } = workerData as TextWorkerData;
const words = new Int32Array(progress);
let stage: Stage | null = null;

const reply = (message: TextReply) => parentPort!.postMessage(message);

const fault = (message: string) => reply({ type: "fault", message });

function showProgress(item = 0): void {
  Atomics.store(words, 1, item);
  Atomics.add(words, 0, 1);
}

const call: TextCall = {
  limits,
  begin(next) {
    stage = next;
    showProgress();
    reply({ type: "stage", stage });
  },
  progress: showProgress,
  emit: (event) => reply({ type: "event", event }),
};

async function answer(request: TextRequest): Promise<void> {
  stage = null;
  try {
    const work = calls[request.kind] as (args: unknown, call: TextCall) => unknown;
    const result = await work(request.args, call) as TextCalls[TextKind]["result"];
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

// From a timer, because only there running out of memory is told of: elsewhere the work ends unnoticed.
parentPort!.on("message", (request: TextRequest) => setTimeout(() => answer(request)));
