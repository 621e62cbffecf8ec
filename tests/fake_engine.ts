// An engine without a GPU: it answers every task with small made-up results and writes the files a
// real one would, so that the queue and the routes can be tested alone. `behave` replaces that.

import { mkdirSync, writeFileSync } from "node:fs";
import { Cancelled } from "../lib/errors.ts";
import type { Engine } from "../lib/engine/engine.ts";
import type { Task, TaskEvent, TaskResults } from "../lib/engine/messages.ts";

export type Behaviour = (
  task: Task,
  onEvent: (event: TaskEvent) => void,
  signal: AbortSignal,
) => Promise<unknown>;

export const partitionReport = {
  model: "lorapar-tiny",
  theta: 0.9,
  alpha: 1,
  beta: 1,
  elements: 8,
  counts: { system1_only: 2, system2_only: 2, shared: 2, inactive: 2 },
};

/** A safetensors file with these tensors. */
export function safetensors(
  tensors: Record<string, { dtype: "F32" | "U8"; shape: number[]; data: ArrayLike<number> }>,
): Uint8Array<ArrayBuffer> {
  const header: Record<string, unknown> = {};
  const parts: Uint8Array[] = [];
  let offset = 0;
  for (const [name, { dtype, shape, data }] of Object.entries(tensors)) {
    const bytes = dtype === "F32"
      ? new Uint8Array(Float32Array.from(data).buffer)
      : Uint8Array.from(data);
    header[name] = { dtype, shape, data_offsets: [offset, offset + bytes.length] };
    offset += bytes.length;
    parts.push(bytes);
  }
  let json = JSON.stringify(header);
  while (json.length % 8) json += " ";
  const out = new Uint8Array(8 + json.length + offset);
  new DataView(out.buffer).setBigUint64(0, BigInt(json.length), true);
  out.set(new TextEncoder().encode(json), 8);
  let at = 8 + json.length;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

function writePartition(folder: string, report: unknown): void {
  mkdirSync(folder, { recursive: true });
  const name = "model.layers.0.self_attn.q_proj.lora_A.weight";
  writeFileSync(`${folder}/partition.json`, JSON.stringify(report));
  writeFileSync(
    `${folder}/partition.safetensors`,
    safetensors({
      [`${name}.importance.system1`]: { dtype: "F32", shape: [2, 2], data: [4, 3, 2, 1] },
      [`${name}.importance.system2`]: { dtype: "F32", shape: [2, 2], data: [1, 2, 3, 4] },
      [`${name}.initial`]: { dtype: "F32", shape: [2, 2], data: [0.1, 0.2, 0.3, 0.4] },
      [`${name}.region`]: { dtype: "U8", shape: [2, 2], data: [1, 3, 2, 0] },
    }),
  );
}

/** What each kind of task answers unless `behave` says otherwise. */
export const usual: Behaviour = (task, onEvent, signal) => {
  if (signal.aborted) return Promise.reject(new Cancelled("Cancelled by the user."));
  if ("outputFolder" in task) mkdirSync(task.outputFolder, { recursive: true });
  switch (task.kind) {
    case "classify":
      writeFileSync(`${task.outputFolder}/classified.jsonl`, '{"system":"system1"}\n');
      return Promise.resolve({
        file: "classified.jsonl",
        counts: { system1: 1, system2: 0, undecided: 0, abstentions: 0 },
        agreement: 1,
        fleiss_kappa: null,
        pairwise: [],
      });
    case "partition":
      writePartition(task.outputFolder, partitionReport);
      return Promise.resolve(partitionReport);
    case "rethreshold": {
      const report = { ...partitionReport, ...task.request };
      writePartition(task.outputFolder, report);
      return Promise.resolve(report);
    }
    case "train":
      return Promise.resolve(train(task, onEvent));
    case "evaluate":
      writeFileSync(`${task.outputFolder}/answers.jsonl`, "{}\n");
      return Promise.resolve({
        accuracy: 0.5,
        interval: [0.1, 0.9],
        count: 2,
        correct: 1,
        rewards: {},
        file: "answers.jsonl",
      });
    case "chat":
      return Promise.resolve(chat(task, onEvent));
    case "describe_model":
      return Promise.resolve({ architecture: "llama", parameters: 4_000_000 });
    case "inspect_file":
      return Promise.resolve({ samples: 1, labelled: 0, error: null });
    case "doctor":
      return Promise.resolve({ adapter: "fake" });
  }
};

function train(task: Extract<Task, { kind: "train" }>, onEvent: (event: TaskEvent) => void) {
  if (task.dryRun) {
    return {
      elements: { total: 8, active: [{ kind: "sft", elements: 4 }] },
      memory: { weights: 1, activations: 1, kv_cache: 1, optimizer: 1, total: 4, available: null },
      fits: true,
      phases: [{ kind: "sft", samples: 1, steps: 1 }],
      estimated_seconds: null,
    };
  }
  const progress = (done: number) =>
    onEvent({
      type: "progress",
      progress: { phase: "sft", done, total: 2, unit: "steps", etaSeconds: 2 - done },
    });
  progress(1);
  onEvent({ type: "metrics", phase: "sft", step: 1, values: { loss: 2.5, grad_norm: 1 } });
  onEvent({ type: "sample", sample: { prompt: "1+1", completion: "2", rewards: {} } });
  progress(2);
  onEvent({ type: "metrics", phase: "sft", step: 2, values: { loss: 1.5 } });
  onEvent({ type: "log", level: "info", message: "done" });
  const partitionFolder = typeof task.request.partition === "object" && task.request.partition
    ? "partition"
    : null;
  if (partitionFolder) writePartition(`${task.outputFolder}/partition`, partitionReport);
  mkdirSync(`${task.outputFolder}/adapter`);
  writeFileSync(`${task.outputFolder}/adapter/adapter_config.json`, '{"peft_type":"LORA"}');
  writeFileSync(`${task.outputFolder}/adapter/adapter_model.safetensors`, safetensors({}));
  return {
    adapterFolder: "adapter",
    partitionFolder,
    classifiedFile: null,
    phases: [{
      kind: "sft",
      steps: 2,
      tokens: 10,
      active_elements: 4,
      metrics: { loss: 1.5 },
      seconds: 1,
    }],
    evaluations: [],
    inactive_elements_changed: 0,
  };
}

function chat(task: Extract<Task, { kind: "chat" }>, onEvent: (event: TaskEvent) => void) {
  const choices = Array.from({ length: task.n }, (_, index) => {
    for (const text of ["Hel", "lo"]) onEvent({ type: "delta", index, text });
    return { index, text: "Hello", finishReason: "stop" as const, tokens: 2 };
  });
  return { choices, promptTokens: 7 };
}

export interface FakeEngine extends Engine {
  tasks: Task[];
  /** How the next tasks are answered. */
  behave: Behaviour;
  /** What `problem` answers. */
  trouble: string | null;
}

export function fakeEngine(behave: Behaviour = usual): FakeEngine {
  const tasks: Task[] = [];
  return {
    tasks,
    behave,
    trouble: null,
    problem() {
      return this.trouble;
    },
    async run(task, onEvent = () => {}, signal = new AbortController().signal) {
      tasks.push(structuredClone(task) as Task);
      return await this.behave(task as Task, onEvent, signal) as TaskResults[typeof task.kind];
    },
    close: () => Promise.resolve(),
  };
}

/** Runs until the job is cancelled, telling its progress first. */
export const endless: Behaviour = (_task, onEvent, signal) =>
  new Promise((_, reject) => {
    onEvent({
      type: "progress",
      progress: { phase: "sft", done: 1, total: 9, unit: "steps", etaSeconds: 8 },
    });
    const stop = () => reject(new Cancelled("Cancelled by the user."));
    if (signal.aborted) stop();
    signal.addEventListener("abort", stop);
  });
