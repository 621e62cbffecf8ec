// The server's configuration from a file, the environment and options, each before the one it is
// named after. Relative paths start at the folder the command was called from.

import { resolve } from "node:path";
import { type ServerConfig, serverConfig } from "../lib/jobs/config.ts";
import { invalidRequest } from "../lib/jobs/issues.ts";

/** What a command line may set, as `parseArgs` of node:util wants it. */
export const configOptions = {
  config: { type: "string" },
  host: { type: "string" },
  port: { type: "string" },
  data: { type: "string" },
  models: { type: "string" },
} as const;

export type ConfigOptions = { [name in keyof typeof configOptions]?: string };

/** Where a relative path of the user starts. */
export function callerFolder(environment: Record<string, string>): string {
  // `deno task` runs in the project's folder and tells in INIT_CWD where it was called.
  const project = resolve(import.meta.dirname ?? ".", "..");
  return Deno.cwd() === project ? environment.INIT_CWD || project : Deno.cwd();
}

/** @throws {Error} naming the file or the setting that cannot be used, and why. */
export function readConfig(
  options: ConfigOptions,
  environment: Record<string, string>,
): ServerConfig {
  const folder = callerFolder(environment);
  const file = options.config === undefined ? {} : readJson(resolve(folder, options.config));
  const given = {
    host: options.host ?? environment.HOST,
    port: portNumber(options.port ?? environment.PORT),
    data: options.data ?? environment.LORAPAR_DATA,
    models: options.models ?? environment.LORAPAR_MODELS,
    api_key: environment.LORAPAR_API_KEY,
  };
  // An empty variable is an unset one.
  const set = Object.fromEntries(
    Object.entries(given).filter(([, value]) => value !== undefined && value !== ""),
  );
  const merged = { ...file, ...set };
  const parsed = serverConfig.safeParse(merged);
  if (!parsed.success) throw invalidRequest(parsed.error.issues, merged);
  const { data, models } = parsed.data;
  const config = {
    ...parsed.data,
    data: resolve(folder, data),
    models: models === null ? null : resolve(folder, models),
  };
  if (config.models !== null && !isFolder(config.models)) {
    throw new Error(
      `Cannot look for models in ${config.models}: it is no folder. ` +
        "Correct or leave out --models, LORAPAR_MODELS or the configuration's models.",
    );
  }
  return config;
}

/** Digits as a number; anything else stays as it is, for the check to refuse. */
function portNumber(text: string | undefined): number | string | undefined {
  return text && /^\d+$/.test(text) ? Number(text) : text;
}

/** Whether there is a folder at `path`. */
export function isFolder(path: string): boolean {
  try {
    return Deno.statSync(path).isDirectory;
  } catch {
    return false;
  }
}

/** The object in a JSON file. @throws {Error} when it cannot be read or holds something else. */
export function readJson(path: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(Deno.readTextFileSync(path));
  } catch (error) {
    throw new Error(`Cannot read ${path}: ${(error as Error).message}.`);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new Error(`Cannot read ${path}: it holds no JSON object, {…}.`);
  }
  return value as Record<string, unknown>;
}
