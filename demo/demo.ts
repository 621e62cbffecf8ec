// The method from end to end on the embedded model, through the server's own HTTP API: unlabelled
// samples are classified by three models' votes, the LoRA elements are partitioned, phase 1 (SFT)
// trains System 1's and phase 2 (GRPO) System 2's. After each, samples that were never trained on are
// answered and graded. The adapter is downloaded and compared with the partition bit by bit.
// Writes FOLDER/summary.json and FOLDER/out/ (the samples, the server's data, the adapter, the partition).

import { relative, resolve } from "node:path";
import { parseArgs } from "node:util";
import { Client } from "./client.ts";
import { demoSamples, type System, taggedSystemPrompt } from "./corpus.ts";
import { JobProgress, type Screen, standardOutput } from "./progress.ts";
import { startServer } from "./server.ts";
import { percent, table } from "./table.ts";
import { countMoves, untar } from "./verify.ts";

const usage = `lorapar demo [--folder demo] [--seed 0]

  --folder F   where summary.json and out/ are written; F/out is emptied first
  --seed N     of the samples, the adapter's start, their order and the rollouts
`;

const model = "lorapar-tiny";
const teachers = ["a", "b", "c"].map((name) => ({ name, model: `lorapar-teacher-${name}` }));

/** Samples in all, half of each system. */
const counts = { train: 600, heldOut: 256 };

const lora = { r: 8, lora_alpha: 64, init: "gaussian" };

/** The paper's phases with rates, batches and lengths for a model of a million parameters. */
const sft = {
  kind: "sft",
  learning_rate: 2e-3,
  num_train_epochs: 3,
  per_device_train_batch_size: 16,
  gradient_accumulation_steps: 1,
  lora_dropout: 0,
};
const grpo = {
  kind: "grpo",
  learning_rate: 1e-3,
  max_steps: 80,
  max_grad_norm: 0.5,
  num_generations: 8,
  per_device_train_batch_size: 64,
  gradient_accumulation_steps: 1,
  max_completion_length: 48,
  loss_type: "dapo",
  rewards: [{ type: "math_answer" }, { type: "soft_format" }],
  system_prompt: taggedSystemPrompt,
};

/** How each system's answers are graded: the bare answer word for word; the final number. */
const graders: Record<System, Record<string, unknown>> = {
  system1: { grader: { type: "string_check", operation: "eq" }, max_tokens: 16 },
  system2: {
    grader: { type: "math_answer" },
    max_tokens: 48,
    system_prompt: taggedSystemPrompt,
  },
};

const stages = ["base", "phase1", "phase2"] as const;
type Stage = typeof stages[number];

interface Evaluation {
  accuracy: number;
  interval: [number, number];
  correct: number;
  count: number;
  /** Id of the file of answers, in the samples' order. */
  file: string;
}

/** A line of that file. */
interface Answer {
  question: string;
  answer: string;
  completion: string;
  correct: boolean;
}

interface Training {
  adapter: string;
  model: string;
  inactive_elements_changed: number;
}

/** demo/summary.json. */
export interface Summary {
  accuracy: Record<Stage, Record<System, number>>;
  labels: { agreement_with_truth: number };
  /** Shares of all LoRA elements, and |shared| / |union|. */
  partition: {
    system1_only: number;
    system2_only: number;
    shared: number;
    inactive: number;
    jaccard: number;
  };
  inactive_elements_changed: number;
  /** The downloaded PEFT folder. */
  adapter: string;
  seconds: number;
}

/**
 * Runs the demo; a relative --folder starts at `caller`.
 * @throws {Error} when a job fails or an inactive element moved.
 */
export async function runDemo(args: string[], caller = Deno.cwd()): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      folder: { type: "string", default: "demo" },
      seed: { type: "string", default: "0" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help) return console.log(usage);
  const seed = Number(values.seed);
  if (!Number.isInteger(seed) || seed < 0 || seed >= 2 ** 30) {
    throw new Error(`Cannot use the seed "${values.seed}": it is a whole number from 0 to 2^30.`);
  }
  const folder = resolve(caller, values.folder);
  const out = `${folder}/out`;
  await Deno.remove(out, { recursive: true }).catch((error) => {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  });
  await Deno.mkdir(out, { recursive: true });
  const begin = performance.now();
  const server = await startServer(`${out}/data`);
  try {
    const summary = await tour(new Client(server.origin), standardOutput(), seed, out);
    summary.seconds = Math.round((performance.now() - begin) / 100) / 10;
    const path = `${folder}/summary.json`;
    await Deno.writeTextFile(path, JSON.stringify(summary, null, 2) + "\n");
    console.log(`\n${relative(caller, path)} is written. All in all ${summary.seconds} s.`);
    if (summary.inactive_elements_changed > 0) {
      throw new Error(`${summary.inactive_elements_changed} inactive elements moved: none may.`);
    }
  } finally {
    await server.close();
  }
}

/** All of the demo against a running server. `out` is the folder for what is downloaded. */
async function tour(client: Client, screen: Screen, seed: number, out: string): Promise<Summary> {
  const title = (text: string) => screen.write(`\n${text}\n`);
  const run = async <R>(path: string, body: unknown, metricsEvery = 1): Promise<R> => {
    const progress = new JobProgress(screen, metricsEvery);
    try {
      return await client.run<R>(path, body, progress.show);
    } finally {
      progress.end();
    }
  };

  title(`1. Upload: ${counts.train} samples without labels, ${counts.heldOut} held out`);
  const { train, heldOut } = demoSamples(seed, counts);
  const truth = new Map(train.map(({ question, system }) => [question, system]));
  const upload = async (filename: string, records: unknown[]) => {
    const text = records.map((record) => JSON.stringify(record) + "\n").join("");
    await Deno.writeTextFile(`${out}/${filename}`, text);
    return await client.upload(filename, text);
  };
  const trainFile = await upload(
    "train.jsonl",
    train.map(({ question, answer }) => ({ question, answer })),
  );
  const heldOutOf = (system: System) => heldOut.filter((sample) => sample.system === system);
  const heldOutFiles: Record<System, string> = {
    system1: await upload("held_out_system1.jsonl", heldOutOf("system1")),
    system2: await upload("held_out_system2.jsonl", heldOutOf("system2")),
  };

  title(`2. Classify: the votes of ${teachers.map((teacher) => teacher.model).join(", ")}`);
  const classified = await run<{
    file: string;
    counts: Record<string, number>;
    agreement: number;
    fleiss_kappa: number | null;
  }>("/v1/classify", { file: trainFile, target_model: model, teachers, seed });
  const labelled = await client.records<{ question: string; system: string }>(classified.file);
  const agreement = agreementWithTruth(labelled, truth);
  screen.write(
    `  System 1: ${classified.counts.system1}, System 2: ${classified.counts.system2}; ` +
      `the teachers agree on ${percent(classified.agreement)}, ` +
      `the labels with the truth on ${percent(agreement)}\n`,
  );

  title("3. Partition: which LoRA elements matter for which system");
  const { partition: partitionId } = await run<{ partition: string }>("/v1/partition", {
    model,
    file: classified.file,
    lora: { ...lora, seed },
    seed,
  });
  const { fractions, jaccard, elements, theta } = await client.get<{
    fractions: Omit<Summary["partition"], "jaccard">;
    jaccard: number;
    elements: number;
    theta: number;
  }>(`/v1/partitions/${partitionId}`);
  const { system1_only, system2_only, shared, inactive } = fractions;
  screen.write(
    `  of ${elements} elements at theta ${theta}: System 1 only ${percent(system1_only)}, ` +
      `System 2 only ${percent(system2_only)}, shared ${percent(shared)}, ` +
      `inactive ${percent(inactive)}; Jaccard ${jaccard.toFixed(3)}\n`,
  );

  const evaluations = {} as Record<Stage, Record<System, Evaluation>>;
  const answers = {} as Record<Stage, Record<System, Answer[]>>;
  const look = async (stage: Stage, name: string) => {
    const evaluate = (system: System) =>
      run<Evaluation>("/v1/evaluate", {
        model: name,
        file: heldOutFiles[system],
        ...graders[system],
      });
    const [one, two] = [await evaluate("system1"), await evaluate("system2")];
    evaluations[stage] = { system1: one, system2: two };
    answers[stage] = {
      system1: await client.records(one.file),
      system2: await client.records(two.file),
    };
    for (const system of ["system1", "system2"] as const) {
      const { correct, count } = evaluations[stage][system];
      screen.write(`  ${systemNames[system]}: ${correct} of ${count} right\n`);
    }
  };

  title("4. Evaluate the base model on what is held out");
  await look("base", model);

  const body = { file: classified.file, partition: partitionId, seed };
  title("5. Phase 1: SFT on System 1's samples, moving System 1's elements");
  const phase1 = await run<Training>("/v1/train", {
    ...body,
    model,
    phases: [sft],
    suffix: "phase1",
  }, 10);
  await look("phase1", phase1.model);

  title("6. Phase 2: GRPO on System 2's samples, moving System 2's elements");
  const phase2 = await run<Training>("/v1/train", {
    ...body,
    model: phase1.model,
    phases: [grpo],
    suffix: "phase2",
  }, 5);
  await look("phase2", phase2.model);

  title("7. Download the adapter and compare it with the partition, bit by bit");
  const adapter = `${out}/adapter`;
  await Deno.mkdir(adapter);
  const tar = await client.download(`/v1/adapters/${phase2.adapter}/download?format=peft`);
  for (const [name, bytes] of untar(tar)) await Deno.writeFile(`${adapter}/${name}`, bytes);
  const partitionPath = `${out}/partition.safetensors`;
  const partitionBytes = await client.download(`/v1/partitions/${partitionId}/download`);
  await Deno.writeFile(partitionPath, partitionBytes);
  const moves = countMoves(`${adapter}/adapter_model.safetensors`, partitionPath);
  if (moves.activeChanged === 0) {
    throw new Error("No active element moved: the adapter is the partition's start.");
  }
  screen.write(
    `  ${moves.activeChanged} of ${moves.active} active elements moved, ` +
      `${moves.inactiveChanged} of ${moves.inactive} inactive ones\n`,
  );

  for (const [system, before, after] of changes) {
    const index = firstCorrected(answers[before][system], answers[after][system]);
    const { question, answer } = answers.base[system][index];
    title(
      `${systemNames[system]}, the first question that is right only after ${
        stageNames[after]
      }: ${question}`,
    );
    const rows = stages.map((stage) => [
      stageNames[stage],
      answers[stage][system][index].completion,
    ]);
    rows.push(["reference", answer]);
    screen.write(rows.map(([who, text]) => `  ${who.padEnd(16)} ${oneLine(text)}\n`).join(""));
  }
  title("Accuracy on held-out samples (95 % interval)");
  screen.write(accuracyTable(evaluations) + "\n");

  const accuracyOf = (stage: Stage) => ({
    system1: evaluations[stage].system1.accuracy,
    system2: evaluations[stage].system2.accuracy,
  });
  return {
    accuracy: {
      base: accuracyOf("base"),
      phase1: accuracyOf("phase1"),
      phase2: accuracyOf("phase2"),
    },
    labels: { agreement_with_truth: agreement },
    partition: { system1_only, system2_only, shared, inactive, jaccard },
    // The trainings' own counts and ours.
    inactive_elements_changed: Math.max(
      phase1.inactive_elements_changed,
      phase2.inactive_elements_changed,
      moves.inactiveChanged,
    ),
    adapter,
    seconds: 0,
  };
}

const systemNames: Record<System, string> = { system1: "System 1", system2: "System 2" };
const stageNames: Record<Stage, string> = {
  base: "base",
  phase1: "phase 1 (SFT)",
  phase2: "phase 2 (GRPO)",
};

/** Which phase is for which system, and what stood before it. */
const changes: [System, Stage, Stage][] = [
  ["system1", "base", "phase1"],
  ["system2", "phase1", "phase2"],
];

/** The first answer that was wrong before and is right after, or the first one of all. */
export function firstCorrected(
  before: Pick<Answer, "correct">[],
  after: Pick<Answer, "correct">[],
): number {
  return Math.max(0, after.findIndex(({ correct }, i) => correct && !before[i].correct));
}

/** Share of samples whose label is the truth; an undecided one is not. */
export function agreementWithTruth(
  labelled: { question: string; system: string }[],
  truth: Map<string, System>,
): number {
  const right = labelled.filter(({ question, system }) => truth.get(question) === system);
  return right.length / labelled.length;
}

/** A row for each system, a column for each stage. */
export function accuracyTable(evaluations: Record<Stage, Record<System, Evaluation>>): string {
  const rows = (["system1", "system2"] as const).map((system) => [
    systemNames[system],
    ...stages.map((stage) => {
      const { accuracy, interval: [low, high] } = evaluations[stage][system];
      return `${percent(accuracy)} (${(100 * low).toFixed(0)}-${(100 * high).toFixed(0)})`;
    }),
  ]);
  return table([["", ...stages.map((stage) => stageNames[stage])], ...rows]);
}

function oneLine(text: string): string {
  return text.replaceAll("\n", " ").trim();
}
