// lorapar's command line: serve (the default), demo, train, doctor. The only reader of arguments and
// environment; each command has a file in commands/ and is handed what it needs.

import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { doctor } from "./commands/doctor.ts";
import { configureLog } from "./commands/log.ts";
import { serve } from "./commands/serve.ts";
import { callerFolder, configOptions, readConfig } from "./commands/settings.ts";
import { train } from "./commands/train.ts";
import project from "./deno.json" with { type: "json" };

const help = `lorapar ${project.version}: LoRA-PAR on WebGPU

  lorapar [serve]             start the server: http://127.0.0.1:8080, documented at /docs
  lorapar demo                train the embedded model through the server's API, from end to end
  lorapar train CONFIG.json   run one training: the body of POST /v1/train, where a file may be a
                              path (relative to CONFIG.json) instead of an id
  lorapar doctor              show the GPU, its driver and limits, and what is wrong

  --host ADDRESS    listen there, 127.0.0.1 by default; any other needs LORAPAR_API_KEY
  --port NUMBER     8080 by default; 0 takes a free one
  --data FOLDER     jobs, uploads, partitions and adapters, .lorapar by default
  --models FOLDER   base models: Hugging Face folders and .gguf files
  --config FILE     settings as JSON
  --help, --version

Options go before the environment, which goes before the file: HOST, PORT, LORAPAR_DATA,
LORAPAR_MODELS, LORAPAR_API_KEY, and LORAPAR_LOG (debug, info, warning, error). Relative paths
start at the folder you call from.
`;

/** @throws {Error} for an option that there is not, or one without its value. */
function parseOptions(args: string[]) {
  try {
    return parseArgs({
      args,
      allowPositionals: true,
      options: {
        ...configOptions,
        help: { type: "boolean", short: "h" },
        version: { type: "boolean", short: "v" },
      },
    });
  } catch (error) {
    // Of the message only the first sentence; the rest explains how to write "--" in file names.
    throw new Error(`${(error as Error).message.split(/\.\s/)[0]}. See --help.`);
  }
}

/** Runs one command and answers the exit status. @throws {Error} whose message is for the user. */
async function main(args: string[]): Promise<number> {
  const environment = Deno.env.toObject();
  const [command = "serve", ...rest] = args[0]?.startsWith("-") ? ["serve", ...args] : args;
  if (command === "demo") {
    await configureLog(environment.LORAPAR_LOG || "info");
    const { runDemo } = await import("./demo/demo.ts");
    await runDemo(rest, callerFolder(environment));
    return 0;
  }
  const { values, positionals } = parseOptions(rest);
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
  await configureLog(environment.LORAPAR_LOG || "info");
  const config = () => readConfig(values, environment);
  switch (command) {
    case "serve":
      return await serve(config());
    case "train":
      return await train(config(), resolve(callerFolder(environment), positionals[0]!));
    case "doctor":
      return await doctor(config());
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
