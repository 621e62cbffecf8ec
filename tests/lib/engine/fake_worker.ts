// An engine's Worker without a GPU that does what a task's model id says, so that every way to die can
// be made to happen. It speaks the protocol of lib/engine/protocol.ts.

import type { EngineReply, EngineRequest } from "../../../lib/engine/protocol.ts";

declare const self: {
  onmessage: (event: MessageEvent<EngineRequest>) => void;
  postMessage(reply: EngineReply): void;
};

const tell = (reply: EngineReply) => self.postMessage(reply);
const sleeper = new Int32Array(new SharedArrayBuffer(4));

/** The task "read" and its file. */
let reading = { id: "", path: "" };

function read(call: number): void {
  const { id, path } = reading;
  const args = { file: { id: "file-1", path, filename: "loop.jsonl" } };
  tell({ type: "text", id, call, request: { kind: "inspect_file", args } });
}

/** Makes a second call after the first has failed, and notes that it failed too. */
function readAgain(call: number): void {
  if (call === 1) read(2);
  else Deno.writeTextFileSync(`${reading.path}.failed`, "");
}

self.onmessage = ({ data }) => {
  if (data.type === "open") {
    const heart = new Int32Array(data.heart);
    setInterval(() => Atomics.add(heart, 0, 1), 5);
    // A choicesPath stands for the reason why this engine has no device.
    tell({ type: "device", problem: data.choicesPath });
    return;
  }
  if (data.type === "text_failed") return readAgain(data.call);
  if (data.type !== "run") return;
  const { id, task, cancel } = data;
  tell({ type: "begun", id });
  if (task.kind === "evaluate") {
    Deno.writeTextFileSync(`${task.outputFolder}/answers.jsonl`, "{}\n");
    const interval: [number, number] = [0, 1];
    const result = { accuracy: 1, interval, count: 1, correct: 1, rewards: {} };
    return tell({ type: "done", id, result: { ...result, file: "answers.jsonl" } });
  }
  if (task.kind !== "chat") return; // A training never ends.
  const stopped = (name: string, code: string) =>
    tell({ type: "failed", id, error: { name, message: name, param: null, code } });
  switch (task.model.id) {
    case "answer":
      return tell({ type: "done", id, result: { choices: [], promptTokens: task.maxTokens } });
    // Stops when it is asked to.
    case "work": {
      const step = setInterval(() => {
        if (Atomics.load(new Int32Array(cancel), 0) === 0) return;
        clearInterval(step);
        stopped("Cancelled", "cancelled");
      }, 5);
      return;
    }
    // Never ends, whatever it is asked.
    case "ignore":
      return;
    // Has a file read and keeps the thread meanwhile, as another task's step does.
    case "read": {
      reading = { id, path: task.messages[0].content };
      read(1);
      Atomics.wait(sleeper, 0, 0, task.maxTokens);
      return;
    }
    // Keeps the thread, as a step that computes or a loop does.
    case "block":
      Atomics.wait(sleeper, 0, 0, task.maxTokens);
      return tell({ type: "done", id, result: { choices: [], promptTokens: task.maxTokens } });
    case "die":
      throw new Error("the Worker met its end");
    case "constructor":
      return stopped("constructor", "internal_error");
  }
};
