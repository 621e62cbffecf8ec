// The demo's own parts, without a GPU: what it shows, how it follows jobs, what it checks.

import { assert, assertEquals } from "@std/assert";
import { parseEvents } from "../../demo/client.ts";
import { accuracyTable, agreementWithTruth, firstCorrected, runDemo } from "../../demo/demo.ts";
import { bar, JobProgress, metricsText, progressText, type Screen } from "../../demo/progress.ts";
import { percent, table } from "../../demo/table.ts";
import { countMoves, untar } from "../../demo/verify.ts";
import { tarStream } from "../../lib/lora/tar.ts";
import { writeSafetensors } from "../../lib/model/safetensors.ts";
import { assertRejects, assertThrows } from "../asserts.ts";

Deno.test("a bar is full at its end only", () => {
  assertEquals(bar(0, 4), "[----]");
  assertEquals(bar(0.5, 4), "[##--]");
  assertEquals(bar(1, 4), "[####]");
  assertEquals(bar(7, 4), "[####]");
});

const progress = (phase: string, done: number, total = 10, eta_s: number | null = 3.2) => ({
  type: "progress",
  data: { phase, done, total, unit: "steps", eta_s },
});

Deno.test("progress says what, how far and how long", () => {
  assertEquals(
    progressText(progress("sft", 5).data),
    "sft        [##########----------] 5/10 steps, 4 s left",
  );
  assertEquals(
    progressText(progress("sft", 10).data),
    `sft        [${"#".repeat(20)}] 10/10 steps`,
  );
  assertEquals(progressText(progress("sft", 0, 0, null).data).includes("NaN"), false);
});

Deno.test("metrics are shown in one order, unknown ones left out", () => {
  const data = { phase: "grpo", step: 3, reward: 1.23456, loss: 0.5, entropy: 1 };
  assertEquals(metricsText(data), "step 3: loss 0.5, reward 1.23");
});

function recorder(isTerminal: boolean): { screen: Screen; text: () => string } {
  let written = "";
  const write = (text: string) => {
    written += text;
  };
  return { screen: { isTerminal, columns: 40, write }, text: () => written };
}

Deno.test("without a terminal only few, whole lines are printed", () => {
  const { screen, text } = recorder(false);
  let nowMs = 0;
  const shown = new JobProgress(screen, 2, () => nowMs);
  for (let done = 1; done <= 10; done++) {
    nowMs += 1000;
    shown.show(progress("sft", done));
    shown.show({ type: "metrics", data: { step: done, loss: 1 } });
  }
  shown.end();
  const lines = text().split("\n");
  assertEquals(lines.pop(), "");
  assert(!text().includes("\r") && !text().includes("\x1b"));
  // The first, one five seconds later and the last.
  assertEquals(lines.filter((line) => line.includes("[")).length, 3);
  // Step 1 and every second one.
  assertEquals(lines.filter((line) => line.includes("loss")).length, 6);
});

Deno.test("on a terminal one line is drawn over and fits", () => {
  const { screen, text } = recorder(true);
  const shown = new JobProgress(screen);
  shown.show(progress("sft", 1));
  shown.show(progress("sft", 2));
  shown.show({ type: "log", data: { level: "warning", message: "cut" } });
  shown.end();
  const drawn = text().split("\r\x1b[K").slice(1);
  assertEquals(drawn.length, 4);
  assert(drawn[2].startsWith("  warning: cut\n"));
  assert(drawn.every((line) => line.split("\n").every((part) => part.length < 40)));
  assert(text().endsWith("\n"));
});

Deno.test("a table's columns line up", () => {
  assertEquals(
    table([["", "base"], ["System 1", percent(0.5)], ["x", percent(1)]]),
    "             base\n--------  -------\nSystem 1   50.0 %\nx         100.0 %",
  );
  const evaluation = (accuracy: number) => ({
    accuracy,
    interval: [accuracy / 2, accuracy] as [number, number],
    correct: 1,
    count: 2,
    file: "file-1",
  });
  const both = (accuracy: number) => ({
    system1: evaluation(accuracy),
    system2: evaluation(accuracy / 2),
  });
  const shown = accuracyTable({ base: both(0.2), phase1: both(0.4), phase2: both(0.8) });
  assert(/System 1 +20\.0 % \(10-20\) +40\.0 % \(20-40\) +80\.0 % \(40-80\)/.test(shown), shown);
});

Deno.test("labels agree with the truth where they are it; undecided ones do not", () => {
  const truth = new Map([["a", "system1"], ["b", "system2"], ["c", "system1"]] as const);
  const labels = ["system1", "system1", "undecided"];
  const labelled = ["a", "b", "c"].map((question, i) => ({ question, system: labels[i] }));
  assertEquals(agreementWithTruth(labelled, truth), 1 / 3);
});

Deno.test("the answer that is shown is the first that went from wrong to right", () => {
  const answers = (marks: string) => [...marks].map((mark) => ({ correct: mark === "+" }));
  assertEquals(firstCorrected(answers("+-+--"), answers("+--++")), 3);
  assertEquals(firstCorrected(answers("++"), answers("+-")), 0);
});

Deno.test("events are found wherever the stream is cut", async () => {
  const text = ': events of job-1\n\nid: 1\nevent: status\ndata: {"status":"running"}\n\n' +
    ': heartbeat\n\nid: 2\nevent: log\ndata: {"message":"a: b — c"}\n\n';
  const bytes = new TextEncoder().encode(text);
  const wanted = [
    { type: "status", data: { status: "running" } },
    { type: "log", data: { message: "a: b — c" } },
  ];
  for (let size = 1; size <= bytes.length; size++) {
    const chunks: Uint8Array<ArrayBuffer>[] = [];
    for (let at = 0; at < bytes.length; at += size) chunks.push(bytes.slice(at, at + size));
    assertEquals(await Array.fromAsync(parseEvents(ReadableStream.from(chunks))), wanted);
  }
});

Deno.test("what the server archives is unpacked; a cut archive is refused", async () => {
  const files = [
    { name: "adapter_config.json", bytes: new TextEncoder().encode("{}") },
    { name: "adapter_model.safetensors", bytes: new Uint8Array(1300).fill(7) },
  ];
  const folder = await Deno.makeTempDir();
  for (const { name, bytes } of files) await Deno.writeFile(`${folder}/${name}`, bytes);
  const paths = files.map(({ name }) => ({ name, path: `${folder}/${name}` }));
  const archive = await new Response(tarStream(paths)).bytes();
  await Deno.remove(folder, { recursive: true });
  const found = untar(archive);
  assertEquals([...found.keys()], files.map(({ name }) => name));
  for (const { name, bytes } of files) assertEquals(found.get(name), bytes);
  assertThrows(() => untar(archive.slice(0, 1024)), /damaged/);
});

Deno.test("a single changed bit of an inactive element is counted", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const name = "model.layers.0.self_attn.q_proj.lora_A.weight";
    const compare = async (now: number[], region: number[], adapterName = name) => {
      const shape = [now.length];
      await writeSafetensors(
        `${folder}/partition.safetensors`,
        new Map([
          [`${name}.initial`, {
            dtype: "F32" as const,
            shape,
            bytes: new Float32Array([0, 1, 2, 3]),
          }],
          [`${name}.region`, { dtype: "U8" as const, shape, bytes: new Uint8Array(region) }],
        ]),
      );
      await writeSafetensors(
        `${folder}/adapter.safetensors`,
        new Map([
          [`base_model.model.${adapterName}`, {
            dtype: "F32" as const,
            shape,
            bytes: new Float32Array(now),
          }],
        ]),
      );
      return countMoves(`${folder}/adapter.safetensors`, `${folder}/partition.safetensors`);
    };
    assertEquals(await compare([0, 1, 5, 3], [0, 0, 1, 3]), {
      inactive: 2,
      inactiveChanged: 0,
      active: 2,
      activeChanged: 1,
    });
    // -0 equals 0, but not in every bit.
    assertEquals(await compare([-0, 1, 5, 3], [0, 0, 2, 0]), {
      inactive: 3,
      inactiveChanged: 1,
      active: 1,
      activeChanged: 1,
    });
    await assertRejects(compare([0, 1, 2, 3], [0, 0, 0, 0], "other"), /has none of that name/);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("a seed that is no number is refused before anything starts", async () => {
  await assertRejects(runDemo(["--seed", "x", "--folder", "/nowhere"]), /Cannot use the seed "x"/);
});
