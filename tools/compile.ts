// deno task compile: one executable with everything in it, dist/lorapar by default. Options of
// `deno compile`, e.g. --target or --output, may follow and come before these.

import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../", import.meta.url));

/** What the program may do; it never asks. */
const permissions = [
  "--no-prompt",
  "--allow-net",
  "--allow-read",
  "--allow-write",
  "--allow-env",
  "--allow-sys=systemMemoryInfo",
];

/** The arguments of `deno` that make the executable. */
export function compileArguments(options: string[]): string[] {
  const output = options.some((one) => /^(-o|--output)(=|$)/.test(one));
  return [
    "compile",
    ...permissions,
    // Without it every package of deno.lock is packed, those of tests and tools too.
    "--exclude-unused-npm",
    ...(output ? [] : ["--output", "dist/lorapar"]),
    ...options,
    "main.ts",
  ];
}

/** What to do when `deno compile` failed for want of its runtime part; null for other failures. */
export function downloadAdvice(errors: string): string | null {
  const address = /https:\/\/\S*\/(denort-\S+?\.zip)/.exec(errors);
  if (!address) return null;
  return `Cannot fetch ${address[1]}, the runtime part that every executable begins with, from ` +
    `${new URL(address[0]).host}. Behind a proxy, set HTTPS_PROXY. On a machine without that ` +
    `site, fetch ${address[0]} elsewhere, unpack it, and name the file: ` +
    "DENORT_BIN=/path/to/denort ./run compile";
}

if (import.meta.main) {
  const { code, stderr } = await new Deno.Command(Deno.execPath(), {
    args: compileArguments(Deno.args),
    cwd: root,
    stdout: "inherit",
    stderr: "piped",
  }).output();
  const errors = new TextDecoder().decode(stderr);
  const advice = code === 0 ? null : downloadAdvice(errors);
  console.error(advice ?? errors.trimEnd());
  Deno.exit(code);
}
