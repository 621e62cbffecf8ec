// How fast the server answers GET /v1/jobs, over HTTP on loopback, while a job trains on the real engine;
// the goal is 50 ms at the 99th percentile. Before it, the same without a job. Prints JSON.
//   deno run -A bench/server_latency.ts [REQUESTS]

import { Client } from "../demo/client.ts";
import { demoSamples } from "../demo/corpus.ts";
import { startServer } from "../demo/server.ts";

const requests = Number(Deno.args[0] ?? 300);
/** Between two requests, so that they meet every part of a step. */
const pauseMs = 10;
const goalMs = 50;

interface Job {
  id: string;
  status: string;
  progress: { phase: string; done: number } | null;
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

async function latencies(client: Client) {
  const ms: number[] = [];
  for (let i = 0; i < requests; i++) {
    const begin = performance.now();
    await client.get("/v1/jobs");
    ms.push(performance.now() - begin);
    await pause(pauseMs);
  }
  ms.sort((a, b) => a - b);
  const quantile = (share: number) => ms[Math.min(ms.length - 1, Math.floor(share * ms.length))];
  const round = (value: number) => Math.round(value * 100) / 100;
  return {
    p50_ms: round(quantile(0.5)),
    p99_ms: round(quantile(0.99)),
    max_ms: round(ms.at(-1)!),
  };
}

/** Latencies while a job of this one phase trains, and its steps meanwhile. */
async function whileTraining(client: Client, file: string, phase: Record<string, unknown>) {
  const { id } = await client.post<Job>("/v1/train", {
    model: "lorapar-tiny",
    file,
    partition: null,
    phases: [{ data: "all", activate: "all", max_steps: 1_000_000, ...phase }],
  });
  const look = () => client.get<Job>(`/v1/jobs/${id}`);
  const stepsNow = async () => {
    const { status, progress } = await look();
    if (status !== "running" && status !== "queued") throw new Error(`The job ${status}`);
    return progress && progress.phase === phase.kind ? progress.done : 0;
  };
  while (await stepsNow() === 0) await pause(50);
  const before = await stepsNow();
  const result = await latencies(client);
  const steps = await stepsNow() - before;
  await client.post(`/v1/jobs/${id}/cancel`, {});
  while ((await look()).status === "running") await pause(20);
  return { ...result, steps };
}

const folder = await Deno.makeTempDir({ prefix: "lorapar-bench-" });
const server = await startServer(folder);
let goal = false;
try {
  const client = new Client(server.origin);
  const samples = demoSamples(0, { train: 64, heldOut: 0 }).train;
  const text = samples.map((sample) => JSON.stringify(sample) + "\n").join("");
  const file = await client.upload("train.jsonl", text);
  const idle = await latencies(client);
  const sft = await whileTraining(client, file, { kind: "sft" });
  const grpo = await whileTraining(client, file, { kind: "grpo", max_completion_length: 48 });
  goal = Math.max(sft.p99_ms, grpo.p99_ms) <= goalMs;
  console.log(JSON.stringify({ requests, idle, sft, grpo, goal_ms: goalMs, goal }, null, 2));
} finally {
  await server.close();
  await Deno.remove(folder, { recursive: true });
}
Deno.exit(goal ? 0 : 1);
