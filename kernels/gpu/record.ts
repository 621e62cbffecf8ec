// What is known of kernels on this adapter, kept on disk between runs: which variants compute rightly
// (kernels/check/) and which were measured to be fastest (autotune.ts). The file only saves time: one
// that is missing, damaged, foreign or too large is as good as none, and one that cannot be written
// costs the next run the same seconds again.

import project from "../../deno.json" with { type: "json" };
import type { Gpu } from "./gpu.ts";
import type { Verdict } from "./verdict.ts";

/** Of one adapter. */
interface Entry {
  choices: Map<string, string>;
  verdicts: Map<string, Verdict>;
}

/** Some hundred choices and a few dozen verdicts an adapter take some tens of kilobytes. */
const mostBytes = 4 * 2 ** 20;

/** Another driver, vector width, subgroup size or version of this program makes other code. */
function adapterKey({ facts }: Gpu): string {
  const { vendor, architecture, description, subgroupSize } = facts;
  return [
    `lorapar ${project.version}`,
    description,
    `vendor ${vendor || "unnamed"}`,
    `architecture ${architecture || "unnamed"}`,
    subgroupSize > 0 ? `subgroups of ${subgroupSize}` : "no subgroups",
  ].join(", ");
}

/** Loads what earlier runs found on this adapter, and keeps `path` for `saveRecord`. */
export async function loadRecord(gpu: Gpu, path: string): Promise<void> {
  gpu.recordPath = path;
  const known = (await readRecord(path)).get(adapterKey(gpu));
  for (const [key, name] of known?.choices ?? []) gpu.choices.set(key, name);
  for (const [key, verdict] of known?.verdicts ?? []) gpu.verdicts.set(key, verdict);
}

/** Saves what is known of this adapter next to what is known of others, where there is a path. */
export async function saveRecord(gpu: Gpu): Promise<void> {
  const { recordPath: path, choices, verdicts } = gpu;
  if (path === null) return;
  const record = await readRecord(path);
  record.set(adapterKey(gpu), { choices, verdicts });
  const text = JSON.stringify(
    Object.fromEntries(
      [...record].map(([adapter, entry]) => [adapter, {
        choices: Object.fromEntries(entry.choices),
        verdicts: Object.fromEntries(entry.verdicts),
      }]),
    ),
    null,
    2,
  );
  const temporary = `${path}.${crypto.randomUUID()}`;
  try {
    await Deno.writeTextFile(temporary, text);
    await Deno.rename(temporary, path);
  } catch {
    // A full or read-only disk: the work that wanted this is done, and must not fail for it.
    await Deno.remove(temporary).catch(() => {});
  }
}

/** By adapter; what does not look like an entry is left out. */
async function readRecord(path: string): Promise<Map<string, Entry>> {
  const record = new Map<string, Entry>();
  try {
    if ((await Deno.stat(path)).size > mostBytes) return record;
    for (const [adapter, entry] of entriesOf(JSON.parse(await Deno.readTextFile(path)))) {
      const { choices, verdicts } = Object(entry);
      record.set(adapter, {
        choices: new Map(entriesOf(choices).filter(([, name]) => typeof name === "string")),
        verdicts: new Map(entriesOf(verdicts).filter(([, verdict]) => isVerdict(verdict))),
      } as Entry);
    }
  } catch {
    // As good as none.
  }
  return record;
}

/** The own entries of a plain object; of anything else, none. */
function entriesOf(value: unknown): [string, unknown][] {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? Object.entries(value)
    : [];
}

function isVerdict(value: unknown): value is Verdict {
  const { right, error, reason, fingerprint, milliseconds } = Object(value);
  if (typeof fingerprint !== "string" || typeof milliseconds !== "number") return false;
  return right === true ? typeof error === "number" : right === false && typeof reason === "string";
}
