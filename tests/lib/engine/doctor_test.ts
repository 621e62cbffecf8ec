// doctor on the real engine, and what a server does where kernels are wrong on its adapter. A wrong kernel
// is had by writing so into the record, as if it had been found.

import { assert, assertEquals } from "@std/assert";
import { fileURLToPath } from "node:url";
import { type Engine, startEngine } from "../../../lib/engine/engine.ts";
import { GpuError } from "../../../lib/errors.ts";
import { assertRejects } from "../../asserts.ts";
import { testGpu } from "../../gpu.ts";

const { description } = (await testGpu()).facts;
const path = await Deno.makeTempFile({ suffix: ".json" });

const chat = {
  kind: "chat" as const,
  model: {
    id: "lorapar-tiny",
    baseId: "lorapar-tiny",
    path: fileURLToPath(new URL("../../../models/tiny", import.meta.url)),
    adapterFolder: null,
  },
  messages: [{ role: "user", content: "hello" }],
  ...{ maxTokens: 3, temperature: 0, topP: 1, topK: 0, minP: 0, seed: 0, stop: [], n: 1 },
};

async function withEngine<T>(work: (engine: Engine) => Promise<T>): Promise<T> {
  const engine = startEngine({ choicesPath: path });
  try {
    return await work(engine);
  } finally {
    await engine.close();
  }
}

/** The report, as far as the tests look at it. */
interface Report {
  kernels: { "compared with f64": Record<string, string> };
  problems: string[];
}

const examine = async (engine: Engine) => await engine.run({ kind: "doctor" }) as unknown as Report;

/** Says in the record that a variant was found wrong. */
async function accuse(key: string) {
  const record = JSON.parse(await Deno.readTextFile(path));
  const [{ verdicts }] = Object.values<{ verdicts: Record<string, object> }>(record);
  const { fingerprint } = verdicts[key] as { fingerprint: string };
  verdicts[key] = { fingerprint, right: false, reason: "a test says so", milliseconds: 1 };
  await Deno.writeTextFile(path, JSON.stringify(record));
}

Deno.test("a record of kernels that is null, and then one of names nobody knows, harm no request", async () => {
  await Deno.writeTextFile(path, "null");
  const { text } = (await withEngine((engine) => engine.run(chat))).choices[0];
  const record = JSON.parse(await Deno.readTextFile(path));
  for (const entry of Object.values<{ choices: object }>(record)) {
    entry.choices = { attention: "banana", sample: "__proto__", select: "constructor" };
  }
  await Deno.writeTextFile(path, JSON.stringify(record));
  assertEquals((await withEngine((engine) => engine.run(chat))).choices[0].text, text);
});

Deno.test("doctor says in words what was found of every op, and no ids", async () => {
  const report = await withEngine(examine);
  const found = report.kernels["compared with f64"];
  for (const op of ["rms_norm", "attention", "matmul by bf16", "sample", "adamw", "select"]) {
    assert(/^(\w+( \w+)? )?right, (exactly|NMSE \d)/.test(found[op]), `${op}: ${found[op]}`);
  }
  const text = JSON.stringify(report);
  assert(!/65541|6880|[0-9a-f]{32}|fingerprint|\bonly\b/.test(text), text);
  assert(!report.problems.some((problem) => /wrong/.test(problem)));
});

Deno.test("a variant found wrong is left out, and doctor names it", async () => {
  const record = await Deno.readTextFile(path);
  const wrong = /"attention: (rows|trees)"/.exec(record)![1];
  await accuse(`attention: ${wrong}`);
  const { text } = (await withEngine((engine) => engine.run(chat))).choices[0];
  const report = await withEngine(examine);
  const problem = report.problems.find((text) => text.includes("a test says so"))!;
  assert(problem.startsWith(`attention by "${wrong}" computes wrongly on this adapter`), problem);
  assert(/It is left out, and ".*" is used instead/.test(problem), problem);
  assert(/\brows (WRONG|right).*\btrees (WRONG|right)/.test(
    ["rows", "trees"].map((name) =>
      report.kernels["compared with f64"].attention.split("; ").find((part) =>
        part.startsWith(name)
      )
    ).join(),
  ));
  await Deno.writeTextFile(path, record);
  assertEquals((await withEngine((engine) => engine.run(chat))).choices[0].text, text);
});

Deno.test("where an op has no right way, what needs it is refused by op and adapter", async () => {
  await accuse("rms_norm: only");
  await withEngine(async (engine) => {
    await assertRejects(
      () => engine.run(chat),
      (error: Error) =>
        error instanceof GpuError && error.code === "kernel_error" &&
        error.message.startsWith(`Cannot compute rms_norm on ${description}`),
    );
    const problem = (await examine(engine)).problems.find((text) => text.startsWith("rms_norm"))!;
    assert(/There is no other way here, so what needs it is refused/.test(problem), problem);
  });
  await Deno.remove(path);
});
