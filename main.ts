// lorapar's commands: serve (default), demo, train, doctor. The only reader of arguments and
// environment, and the only place that configures the log; everything else is handed what it needs.

import { configure, getConsoleSink, getLogger, getTextFormatter } from "@logtape/logtape";
import { basename, dirname, resolve } from "node:path";
import { parseArgs } from "node:util";
import project from "./deno.json" with { type: "json" };
import { type Engine, startEngine } from "./lib/engine/engine.ts";
import { isLoopback, type ServerConfig, serverConfig } from "./lib/jobs/config.ts";
import { isId } from "./lib/jobs/ids.ts";
import { invalidRequest } from "./lib/jobs/issues.ts";
import { Models } from "./lib/jobs/models.ts";
import { planTrain } from "./lib/jobs/plan.ts";
import { hasEnded, Queue } from "./lib/jobs/queue.ts";
import type { EventRow, JobRow } from "./lib/jobs/rows.ts";
import { Store } from "./lib/jobs/store.ts";
import { type TrainSettings, trainSettings } from "./lib/train/settings.ts";
import { createApp } from "./routes/app.ts";
import type { AppDeps } from "./routes/deps.ts";

const help = `lorapar ${project.version}: LoRA-PAR on WebGPU

  lorapar [serve]             start the server
  lorapar demo                train the embedded model through the server's API, from end to end
  lorapar train CONFIG.json   run one training: the body of POST /v1/train, where a file may be a
                              path (relative to CONFIG.json) instead of an id
  lorapar doctor              show the GPU, its driver and limits, and what is wrong

  --config FILE   settings as JSON; the environment goes before it
  --help, --version

Environment: HOST (127.0.0.1), PORT (8080), LORAPAR_DATA (.lorapar), LORAPAR_MODELS (a folder of
Hugging Face folders and .gguf files), LORAPAR_API_KEY, LORAPAR_LOG (debug, info, warning, error).
`;

/** The longest a stop waits for the running step and open answers. */
const graceMs = 15_000;

const logger = getLogger(["lorapar"]);

/** Settings of the file, then of the environment. @throws {Error} naming what is wrong. */
function readConfig(path: string | undefined): ServerConfig {
  const file = path === undefined ? {} : readJson(path);
  const { HOST, PORT, LORAPAR_DATA, LORAPAR_MODELS, LORAPAR_API_KEY } = Deno.env.toObject();
  const environment = {
    host: HOST,
    port: PORT && (/^\d+$/.test(PORT) ? Number(PORT) : PORT),
    data: LORAPAR_DATA,
    models: LORAPAR_MODELS,
    api_key: LORAPAR_API_KEY,
  };
  // An empty variable is an unset one.
  const set = Object.fromEntries(Object.entries(environment).filter(([, value]) => value));
  if (PORT === "0") set.port = 0;
  const merged = { ...file, ...set };
  const parsed = serverConfig.safeParse(merged);
  if (!parsed.success) throw invalidRequest(parsed.error.issues, merged);
  const config = parsed.data;
  if (config.models !== null && !isFolder(config.models)) {
    throw new Error(
      `Cannot look for models in ${config.models}: it is no folder. Mend or unset LORAPAR_MODELS.`,
    );
  }
  return config;
}

function isFolder(path: string): boolean {
  try {
    return Deno.statSync(path).isDirectory;
  } catch {
    return false;
  }
}

function readJson(path: string): Record<string, unknown> {
  try {
    return JSON.parse(Deno.readTextFileSync(path));
  } catch (error) {
    throw new Error(`Cannot read ${path}: ${(error as Error).message}.`);
  }
}

async function configureLog(): Promise<void> {
  const level = Deno.env.get("LORAPAR_LOG") || "info";
  if (level !== "debug" && level !== "info" && level !== "warning" && level !== "error") {
    throw new Error(`Cannot log at "${level}": LORAPAR_LOG is debug, info, warning or error.`);
  }
  const formatter = getTextFormatter({
    value: (value, inspect) => typeof value === "string" ? value : inspect(value),
  });
  await configure({
    sinks: { console: getConsoleSink({ formatter }) },
    loggers: [
      { category: ["lorapar"], lowestLevel: level, sinks: ["console"] },
      { category: ["logtape", "meta"], lowestLevel: "warning", sinks: ["console"] },
    ],
  });
}

function startGpuEngine({ data }: ServerConfig): Engine {
  // Without it a missing Vulkan driver falls back silently to OpenGL.
  if (Deno.build.os === "linux" && !Deno.env.get("DENO_WEBGPU_BACKEND")) {
    Deno.env.set("DENO_WEBGPU_BACKEND", "vulkan");
  }
  return startEngine({ choicesPath: isFolder(data) ? `${data}/kernel_choices.json` : null });
}

/** Opens the store and starts the engine. */
function open(config: ServerConfig, shutdown: AbortSignal): AppDeps {
  const store = new Store(config.data);
  const engine = startGpuEngine(config);
  return {
    config,
    store,
    engine,
    shutdown,
    queue: new Queue(store, engine, config.limits),
    models: new Models(config.models, store),
    readKey: (name) => Deno.env.get(name),
    version: project.version,
  };
}

async function close({ queue, engine, store }: AppDeps): Promise<void> {
  await queue.close();
  await engine.close();
  store.close();
}

/** Calls `first` on the first SIGINT or SIGTERM; the second ends the process at once. */
function onStop(first: () => void): void {
  let count = 0;
  const stop = () => {
    if (++count === 1) first();
    else Deno.exit(130);
  };
  Deno.addSignalListener("SIGINT", stop);
  if (Deno.build.os !== "windows") Deno.addSignalListener("SIGTERM", stop);
}

async function serve(config: ServerConfig): Promise<number> {
  if (!isLoopback(config.host) && config.api_key === null) {
    throw new Error(
      `Cannot listen on ${config.host} without an API key: others could use this machine. ` +
        "Set LORAPAR_API_KEY, or leave HOST at 127.0.0.1.",
    );
  }
  const shutdown = new AbortController();
  const deps = open(config, shutdown.signal);
  const app = createApp(deps);
  let server: Deno.HttpServer<Deno.NetAddr>;
  try {
    server = Deno.serve({
      hostname: config.host,
      port: config.port,
      onListen: ({ hostname, port }) => {
        const host = hostname.includes(":") ? `[${hostname}]` : hostname;
        logger.info(`lorapar ${project.version} listens on http://${host}:${port} (docs: /docs)`);
      },
    }, app.fetch);
  } catch (error) {
    await close(deps);
    if (!(error instanceof Deno.errors.AddrInUse)) throw error;
    throw new Error(
      `Cannot listen on ${config.host}:${config.port}: another program does. ` +
        "Stop that one, or set PORT to another port.",
    );
  }
  onStop(() => {
    logger.info("Stopping: jobs that run are marked interrupted. Again to stop at once.");
    shutdown.abort();
    const closing = Promise.all([server.shutdown(), close(deps)]);
    const late = new Promise((done) => setTimeout(done, graceMs));
    Promise.race([closing, late]).finally(() => Deno.exit(0));
  });
  await server.finished;
  // The stop above ends the process once everything is closed.
  return await new Promise<number>(() => {});
}

/** Copies a file that the configuration names by path into the store and answers its id. */
async function importFile(store: Store, folder: string, given: string): Promise<string> {
  if (isId("file", given)) return given;
  const path = resolve(folder, given);
  let file: Deno.FsFile;
  try {
    file = await Deno.open(path, { read: true });
  } catch (error) {
    throw new Error(`Cannot train on ${path}: ${(error as Error).message}.`);
  }
  const upload = await store.writeUpload(basename(path), file.readable, Infinity);
  return store.addFile({ ...upload, purpose: "fine-tune" }).id;
}

/** The training with ids in place of paths. */
async function withFileIds(store: Store, folder: string, settings: TrainSettings) {
  const { validation_file, evaluate } = settings;
  const idOf = (given: string) => importFile(store, folder, given);
  return {
    ...settings,
    file: await idOf(settings.file),
    validation_file: validation_file === undefined ? undefined : await idOf(validation_file),
    evaluate: evaluate && { ...evaluate, file: await idOf(evaluate.file) },
  };
}

async function train(config: ServerConfig, given: string): Promise<number> {
  // A task runs in the project's folder and names the one it was called from.
  const path = resolve(Deno.env.get("INIT_CWD") ?? "", given);
  const body = readJson(path);
  const parsed = trainSettings.safeParse(body);
  if (!parsed.success) throw invalidRequest(parsed.error.issues, body);
  const deps = open(config, new AbortController().signal);
  try {
    const request = await withFileIds(deps.store, dirname(path), parsed.data);
    const { id } = deps.queue.submit(await planTrain(deps, request));
    onStop(() => deps.queue.cancel(deps.store.job(id)!));
    const job = await printUntilEnd(deps, id);
    if (job.error) console.error(`${job.id} failed: ${job.error.message}`);
    else if (job.result) printTraining(deps, job);
    return job.status === "succeeded" ? 0 : 1;
  } finally {
    await close(deps);
  }
}

function printTraining({ store }: AppDeps, job: JobRow): void {
  const { adapter } = job.result as { adapter: string };
  console.log(JSON.stringify(job.result, null, 2));
  console.log(`Adapter: ${resolve(store.resolve(store.adapter(adapter)!.folder))}`);
}

/** Prints a job's progress, a line every two seconds and at each change of phase, to its end. */
async function printUntilEnd({ queue, store }: AppDeps, id: string): Promise<JobRow> {
  let last = 0;
  let metrics = "";
  let phase = "";
  let printedMs = -Infinity;
  const show = ({ type, data }: EventRow) => {
    if (type === "status") console.log(`${id} ${data.status}`);
    if (type === "log") console.log(`${data.level}: ${data.message}`);
    if (type === "metrics") metrics = metricsLine(data);
    if (type !== "progress") return;
    const due = performance.now() - printedMs > 2000 || data.done === data.total;
    if (!due && data.phase === phase) return;
    if (data.phase !== phase) metrics = "";
    phase = String(data.phase);
    printedMs = performance.now();
    const eta = typeof data.eta_s === "number" ? `, ${Math.ceil(data.eta_s)} s left` : "";
    console.log(`${phase} ${data.done}/${data.total} ${data.unit}${eta}${metrics}`);
  };
  const print = () => {
    for (const event of store.events(id, last, 10_000)) {
      last = event.number;
      show(event);
    }
  };
  const unsubscribe = queue.subscribe(id, print);
  print();
  let job = store.job(id)!;
  while (!hasEnded(job)) job = await queue.wait(id, 3600);
  unsubscribe();
  return job;
}

function metricsLine(data: EventRow["data"]): string {
  return ["loss", "reward", "learning_rate", "tokens_per_s"]
    .filter((name) => typeof data[name] === "number")
    .map((name) => `, ${name} ${Number((data[name] as number).toPrecision(4))}`).join("");
}

async function doctor(config: ServerConfig): Promise<number> {
  const engine = startGpuEngine(config);
  try {
    printTree(await engine.run({ kind: "doctor" }));
    return 0;
  } finally {
    await engine.close();
  }
}

/** Prints names and values, nested ones indented, an empty one as "none". */
function printTree(value: unknown, indent = ""): void {
  for (const [name, inner] of Object.entries(value as object)) {
    const label = Array.isArray(value) ? "-" : `${name}:`;
    const isTree = typeof inner === "object" && inner !== null && Object.keys(inner).length > 0;
    if (!isTree) {
      const isEmpty = typeof inner === "object" || inner === "";
      console.log(`${indent}${label} ${isEmpty ? "none" : String(inner)}`);
    } else {
      console.log(`${indent}${label}`);
      printTree(inner, `${indent}  `);
    }
  }
}

/** Runs one command and answers the exit status. */
async function main(args: string[]): Promise<number> {
  const [command = "serve", ...rest] = args[0]?.startsWith("-") ? ["serve", ...args] : args;
  if (command === "demo") {
    await configureLog();
    const { runDemo } = await import("./demo/demo.ts");
    await runDemo(rest);
    return 0;
  }
  const { values, positionals } = parseArgs({
    args: rest,
    allowPositionals: true,
    options: {
      config: { type: "string" },
      help: { type: "boolean", short: "h" },
      version: { type: "boolean", short: "v" },
    },
  });
  if (values.help || values.version) {
    console.log(values.help ? help : project.version);
    return 0;
  }
  if (command === "train" ? positionals.length !== 1 : positionals.length > 0) {
    throw new Error(
      command === "train"
        ? "Cannot train without a configuration: lorapar train CONFIG.json"
        : `Cannot use "${positionals[0]}": lorapar ${command} takes no file. See --help.`,
    );
  }
  await configureLog();
  switch (command) {
    case "serve":
      return await serve(readConfig(values.config));
    case "train":
      return await train(readConfig(values.config), positionals[0]!);
    case "doctor":
      return await doctor(readConfig(values.config));
    default:
      throw new Error(`Cannot run "${command}": there are serve, demo, train and doctor.`);
  }
}

if (import.meta.main) {
  try {
    Deno.exit(await main(Deno.args));
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    Deno.exit(1);
  }
}
