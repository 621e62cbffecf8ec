// From a checked request to a task for the engine: ids become paths, settings that exclude each
// other are refused, the keys that the configuration names are read from the environment. Used by the routes and the CLI.

import type {
  ClassifyTask,
  EvaluateTask,
  FileReference,
  ModelReference,
  PartitionReference,
  PartitionTask,
  RethresholdTask,
  Task,
  TrainTask,
} from "../engine/messages.ts";
import { readSamples } from "../data/dataset.ts";
import { InvalidFile, InvalidRequest } from "../errors.ts";
import {
  type ClassifySettings,
  type LoraSettings,
  loraSettings,
  type PartitionSettings,
  partitionSettings,
  type RethresholdSettings,
  type TeacherSettings,
} from "../par/settings.ts";
import { teacherAddress } from "../par/teacher_address.ts";
import { compilePattern } from "../train/pattern.ts";
import type { EvaluateSettings, RewardSettings, TrainSettings } from "../train/settings.ts";
import { isLoopback, keyVariable, type ServerConfig } from "./config.ts";
import { isId } from "./ids.ts";
import type { KnownModel, Models } from "./models.ts";
import type { PartitionRow } from "./rows.ts";
import type { Store } from "./store.ts";

export interface PlanDeps {
  store: Store;
  models: Models;
  config: ServerConfig;
  /** Reads an environment variable; main.ts passes it in. */
  readKey(name: string): string | undefined;
}

/** A request that is ready to run. */
export interface Plan<T extends Task = Task> {
  /** With every default filled in; what the job shows. */
  request: T extends { request: infer R } ? R : never;
  /** Ids of files, partitions and adapters that must stay while the job waits and runs. */
  uses: string[];
  /** The name a training gives its model, when the request chose one; no two jobs may wait for it. */
  modelName?: string;
  task(outputFolder: string): T;
  /** Removes what the plan stored, when it does not become a job. */
  discard?(): Promise<void>;
}

/** @throws {InvalidRequest} when there is none, {InvalidFile} when its upload was found unreadable. */
function fileReference(store: Store, id: string, param: string): FileReference {
  const row = isId("file", id) ? store.file(id) : null;
  if (!row) {
    throw new InvalidRequest(
      `Cannot find the file "${id}": upload it with POST /v1/files and give the id of the answer.`,
      param,
      "file_not_found",
    );
  }
  if (row.status === "error") throw new InvalidFile(row.status_details!, param);
  return { id, path: store.resolve(row.path), filename: row.filename };
}

/** The row of a partition that `param` names. @throws {InvalidRequest} when there is none. */
export function requirePartition(store: Store, id: string, param: string): PartitionRow {
  const row = isId("part", id) ? store.partition(id) : null;
  if (!row) {
    throw new InvalidRequest(
      `Cannot find the partition "${id}": GET /v1/partitions lists them, POST /v1/partition makes one.`,
      param,
      "partition_not_found",
    );
  }
  return row;
}

/** A base model's reference; LoRA elements are counted on a base, not on another adapter. */
async function baseReference(models: Models, id: string): Promise<ModelReference> {
  const model = await models.get(id);
  if (model.kind === "trained") {
    throw new InvalidRequest(
      `Cannot put an adapter on "${id}": it carries one already. Give its base model.`,
      "model",
    );
  }
  return model.reference;
}

/** A start with B = 0 makes every importance zero (METHOD.md, section 2). */
function refuseZeroB(lora: LoraSettings, param: string): void {
  if (lora.init !== "default") return;
  throw new InvalidRequest(
    'Cannot partition an adapter that starts with B = 0 (init "default"): every importance would ' +
      'be zero. Set init to "gaussian" or "pissa".',
    `${param}.init`,
    "zero_b",
  );
}

function checkRewards(rewards: RewardSettings[], param: string): void {
  rewards.forEach((reward, index) => {
    if (reward.type === "regex") compilePattern(reward.pattern, `${param}[${index}].pattern`);
  });
}

/** Local models and keys of the teachers, by the teachers' names, and ids of adapters among them. */
async function teacherAccess(deps: PlanDeps, teachers: TeacherSettings[], param: string) {
  const localTeachers = new Map<string, ModelReference>();
  const apiKeys = new Map<string, string>();
  const adapters: string[] = [];
  const { teacher_hosts: allowedHosts } = deps.config;
  for (const [index, { name, model, base_url }] of teachers.entries()) {
    const here = `${param}[${index}]`;
    if (teachers.findIndex((other) => other.name === name) < index) {
      throw new InvalidRequest(
        `Cannot take two teachers named "${name}": votes are kept by name. Rename one.`,
        `${here}.name`,
      );
    }
    if (base_url === undefined) {
      const local = await deps.models.get(model, `${here}.model`);
      localTeachers.set(name, local.reference);
      adapters.push(...adapterOf(local));
    } else {
      const url = teacherAddress(base_url, allowedHosts, `${here}.base_url`);
      const key = keyOf(deps, url, `${here}.base_url`);
      if (key !== null) apiKeys.set(name, key);
    }
  }
  return { access: { localTeachers, apiKeys, allowedHosts }, adapters };
}

/** The key of a teacher's server; null when the configuration names none for it. */
function keyOf({ config, readKey }: PlanDeps, url: URL, param: string): string | null {
  const variable = keyVariable(config, url);
  if (variable === null) return null;
  const key = readKey(variable);
  if (key) return key;
  throw new InvalidRequest(
    `Cannot ask a teacher at ${url.host}: teacher_keys names the variable ${variable} for it, and ` +
      "the server's environment has no such variable. Set it and start the server again.",
    param,
    "key_not_found",
  );
}

/** The adapter that must stay while a model is used, if it has one. */
function adapterOf({ adapter }: KnownModel): string[] {
  return adapter === null ? [] : [adapter];
}

/** @throws {InvalidRequest} for unknown ids and settings that exclude each other, as every plan. */
export async function planClassify(
  deps: PlanDeps,
  request: ClassifySettings,
): Promise<Plan<ClassifyTask>> {
  if ((request.file === undefined) === (request.samples === undefined)) {
    throw new InvalidRequest(
      request.file === undefined
        ? 'Cannot classify nothing: give "file" or "samples".'
        : 'Cannot classify both "file" and "samples": give one of them.',
      request.file === undefined ? "file" : "samples",
    );
  }
  const { access, adapters } = await teacherAccess(deps, request.teachers, "teachers");
  // A record that is no sample is better refused now, by its place, than by the job.
  if (request.samples) readSamples(request.samples);
  const stored = request.samples ? await storeSamples(deps, request.samples) : request.file!;
  const { samples: _, ...rest } = request;
  const whole: ClassifySettings = { ...rest, file: stored };
  const file = fileReference(deps.store, stored, "file");
  return {
    request: whole,
    uses: [stored, ...adapters],
    task: (outputFolder) => ({ kind: "classify", request: whole, file, ...access, outputFolder }),
    async discard() {
      const row = request.samples && deps.store.file(stored);
      if (row) await deps.store.removeFile(row);
    },
  };
}

/** Inline samples become a file like any other, so that a job's row stays small. */
async function storeSamples(deps: PlanDeps, samples: Record<string, unknown>[]): Promise<string> {
  const lines = new TextEncoder().encode(samples.map((one) => `${JSON.stringify(one)}\n`).join(""));
  const upload = await deps.store.writeUpload(
    "samples.jsonl",
    (async function* () {
      yield lines;
    })(),
    Infinity,
  );
  return deps.store.addFile({ ...upload, purpose: "samples" }).id;
}

export async function planPartition(
  deps: PlanDeps,
  request: PartitionSettings,
): Promise<Plan<PartitionTask>> {
  const { file, system1_file: one, system2_file: two } = request;
  if (file !== undefined ? one !== undefined || two !== undefined : !one || !two) {
    throw new InvalidRequest(
      file !== undefined
        ? 'Cannot partition by "file" and by a file per system: give one or the other.'
        : 'Cannot partition without data: give a labelled "file", or "system1_file" and "system2_file".',
      file !== undefined || !one ? (file !== undefined ? "file" : "system1_file") : "system2_file",
    );
  }
  refuseZeroB(request.lora, "lora");
  const model = await baseReference(deps.models, request.model);
  const reference = (id: string | undefined, param: string) =>
    id === undefined ? null : fileReference(deps.store, id, param);
  const files = {
    file: reference(file, "file"),
    system1File: reference(one, "system1_file"),
    system2File: reference(two, "system2_file"),
  };
  return {
    request,
    uses: [file, one, two].filter((id) => id !== undefined),
    task: (outputFolder) => ({ kind: "partition", request, model, ...files, outputFolder }),
  };
}

export function planRethreshold(
  source: PartitionReference,
  request: RethresholdSettings,
): Plan<RethresholdTask> {
  return {
    request,
    uses: [source.id],
    task: (outputFolder) => ({ kind: "rethreshold", request, source, outputFolder }),
  };
}

/** Fills in what was left out: the paper's partition; without one, the usual adapter. */
function withPartition(request: TrainSettings): TrainSettings {
  if (request.partition === null) {
    return { ...request, lora: request.lora ?? loraSettings.parse({}) };
  }
  if (request.partition !== undefined) return request;
  const { model: _, ...partition } = partitionSettings.parse({ model: request.model });
  return { ...request, partition };
}

function checkTrain(request: TrainSettings): void {
  const { partition, lora } = request;
  if (partition !== null && lora !== undefined) {
    throw new InvalidRequest(
      'Cannot use "lora" beside a partition, which has its own. Give it as partition.lora, or set ' +
        "partition to null.",
      "lora",
    );
  }
  if (typeof partition === "object" && partition) refuseZeroB(partition.lora, "partition.lora");
  request.phases.forEach((phase, index) => {
    if (phase.kind !== "grpo") return;
    const { per_device_train_batch_size: batch, num_generations: group } = phase;
    if (batch % group !== 0) {
      throw new InvalidRequest(
        `Cannot split ${batch} completions into groups of ${group}: per_device_train_batch_size ` +
          "must be a multiple of num_generations.",
        `phases[${index}].per_device_train_batch_size`,
      );
    }
    checkRewards(phase.rewards, `phases[${index}].rewards`);
  });
  if (request.evaluate?.grader.type === "regex") {
    compilePattern(request.evaluate.grader.pattern, "evaluate.grader.pattern");
  }
}

/** What goes on from an adapter has its elements, and so its settings, already. */
function checkContinued({ model, lora, partition }: TrainSettings): void {
  if (lora === undefined && (typeof partition === "string" || partition === null)) return;
  throw new InvalidRequest(
    `Cannot start a new adapter on "${model}": it carries one, and training goes on from it. Give the ` +
      'id of its partition as "partition", or null to train all its elements, and no "lora".',
    lora === undefined ? "partition" : "lora",
  );
}

export async function planTrain(
  deps: PlanDeps,
  asked: TrainSettings,
  dryRun = false,
): Promise<Plan<TrainTask>> {
  const known = await deps.models.get(asked.model);
  const { kind, reference: model } = known;
  if (kind === "trained") checkContinued(asked);
  const request = kind === "trained" ? asked : withPartition(asked);
  checkTrain(request);
  const id = typeof request.partition === "string" ? request.partition : null;
  const partition = id === null ? null : requirePartition(deps.store, id, "partition");
  if (partition && partition.model !== model.baseId) {
    throw new InvalidRequest(
      `Cannot train "${request.model}" by ${partition.id}: that partition is of "${partition.model}".`,
      "partition",
    );
  }
  const modelName = request.suffix === undefined ? undefined : `${model.baseId}:${request.suffix}`;
  if (modelName !== undefined && !dryRun && deps.store.adapterOfModel(modelName)) {
    throw new InvalidRequest(
      `Cannot name the model "${modelName}": there is one. Choose another suffix, or delete its adapter.`,
      "suffix",
      "conflict",
    );
  }
  const { access, adapters } = await teacherAccess(
    deps,
    request.classify?.teachers ?? [],
    "classify.teachers",
  );
  const files = {
    file: fileReference(deps.store, request.file, "file"),
    validationFile: request.validation_file === undefined
      ? null
      : fileReference(deps.store, request.validation_file, "validation_file"),
    evaluateFile: request.evaluate === undefined
      ? null
      : fileReference(deps.store, request.evaluate.file, "evaluate.file"),
  };
  return {
    request,
    modelName,
    uses: [
      request.file,
      ...adapterOf(known),
      ...[request.validation_file, request.evaluate?.file, id].filter((used) =>
        typeof used === "string"
      ),
      ...adapters,
    ],
    task: (outputFolder) => ({
      kind: "train",
      request,
      model,
      ...files,
      partition: partition &&
        { id: partition.id, folder: deps.store.resolve(partition.folder) },
      ...access,
      adapterBase: adapterBaseOf(deps.config, known),
      dryRun,
      outputFolder,
    }),
  };
}

/** A downloaded adapter opens its base by a folder's path on this machine alone. */
function adapterBaseOf(
  { base_model_names: names, host }: ServerConfig,
  { owner, reference: { baseId } }: KnownModel,
): TrainTask["adapterBase"] {
  // In a compiled program the embedded models have no folder that others can open.
  const isEmbedded = owner === "lorapar" && Deno.build.standalone;
  return {
    name: Object.hasOwn(names, baseId) ? names[baseId] : null,
    folderMayBeTold: isLoopback(host) && !isEmbedded,
  };
}

export async function planEvaluate(
  deps: PlanDeps,
  request: EvaluateSettings,
): Promise<Plan<EvaluateTask>> {
  if (request.grader === undefined && request.rewards === undefined) {
    throw new InvalidRequest('Cannot grade without a rule: give "grader" or "rewards".', "grader");
  }
  if (request.grader?.type === "regex") compilePattern(request.grader.pattern, "grader.pattern");
  if (request.rewards) checkRewards(request.rewards, "rewards");
  const known = await deps.models.get(request.model);
  const file = fileReference(deps.store, request.file, "file");
  return {
    request,
    uses: [request.file, ...adapterOf(known)],
    task: (outputFolder) => ({
      kind: "evaluate",
      request,
      model: known.reference,
      file,
      outputFolder,
    }),
  };
}
