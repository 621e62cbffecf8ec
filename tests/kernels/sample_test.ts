import { assert, assertEquals } from "@std/assert";
import {
  createSampler,
  releaseSampler,
  sample,
  type SampleSettings,
} from "../../kernels/sample.ts";
import { assertThrows } from "../asserts.ts";
import { asHardware } from "../as_hardware.ts";
import { guarded, normal, testGpu } from "../gpu.ts";
import { type Cuts, sampleReference } from "../../kernels/reference/sample.ts";

/** `rows` sequences (numbered from `first`) sampled `steps` times from the same logits (V). */
async function draw(
  logits: ArrayLike<number>,
  settings: SampleSettings,
  { rows = 1, steps = 1, sequences = Array.from({ length: rows }, (_, b) => b), eosTokens = [] }: {
    rows?: number;
    steps?: number;
    sequences?: number[];
    eosTokens?: number[];
  } = {},
) {
  const gpu = await testGpu();
  const V = Math.ceil(logits.length / 4) * 4;
  const B = sequences.length;
  // Padding columns are larger than any logit, and must not be seen.
  const values = new Float32Array(B * V).fill(1e30);
  for (let b = 0; b < B; b++) values.set(Float32Array.from(logits), b * V);
  const tensor = gpu.upload("logits", values, [B, V]);
  const sampler = createSampler(gpu, { sequences, maxNewTokens: steps, eosTokens, padToken: 7 });
  for (let step = 0; step < steps; step++) {
    sample(gpu, { logits: tensor, sampler }, { vocabulary: logits.length, ...settings });
  }
  const { outputs, next, done, counts, errors } = sampler;
  const [out, last, ended, taken, wrong] = (await gpu.readWords([
    outputs,
    next,
    done,
    counts,
    errors,
  ])).map((words) => Array.from(new Uint32Array(words)));
  releaseSampler(gpu, sampler);
  gpu.release(tensor);
  return { outputs: out, next: last, done: ended, counts: taken, errors: wrong };
}

/** Tokens drawn at least once against those that may be, and Pearson's chi-square over the latter. */
async function check(logits: ArrayLike<number>, cuts: Cuts, draws = 16_384) {
  const steps = 256;
  const { outputs } = await draw(logits, { ...cuts, seed: 5 }, { rows: draws / steps, steps });
  const wanted = sampleReference(logits, cuts);
  const counts = new Float64Array(logits.length);
  for (const token of outputs) counts[token]++;
  let chiSquare = 0;
  let freedom = -1;
  for (let token = 0; token < wanted.length; token++) {
    if (wanted[token] === 0) assertEquals(counts[token], 0, `token ${token} was cut`);
    const expected = wanted[token] * draws;
    if (expected < 5) continue;
    assert(counts[token] > 0, `token ${token} never came: ${expected} expected`);
    chiSquare += (counts[token] - expected) ** 2 / expected;
    freedom++;
  }
  // Six standard deviations above the mean of the chi-square distribution.
  const limit = freedom + 6 * Math.sqrt(2 * freedom) + 6;
  assert(chiSquare < limit, `chi-square ${chiSquare} of ${freedom} degrees, limit ${limit}`);
}

Deno.test("sample: draws follow the softmax", async () => {
  await check(normal(37, 1, 2), { temperature: 1 });
  await check(normal(24, 2, 2), { temperature: 0.6 });
  await check(new Float32Array(64), { temperature: 1.5 });
});

Deno.test("sample: top-k, top-p and min-p keep exactly their tokens", async () => {
  const logits = normal(45, 3, 1.5);
  await check(logits, { temperature: 1.3, topK: 7 });
  await check(logits, { temperature: 1.3, topP: 0.8 });
  await check(logits, { temperature: 2, minP: 0.2 });
  await check(logits, { temperature: 1.5, topK: 20, topP: 0.7, minP: 0.1 });
  await check(logits, { temperature: 1, topK: 1 });
  await check(logits, { temperature: 1, topP: 1e-6 });
  await check(logits, { temperature: 1, topK: 500, topP: 0.999999 });
});

Deno.test("sample: tokens as likely as the last kept are kept", async () => {
  const logits = [3, 1, 2, 2, 2, -0, 0, 1];
  await check(logits, { temperature: 1, topK: 2 });
  await check(logits, { temperature: 1, topP: 0.5 });
  await check(new Array(12).fill(4), { temperature: 1, topK: 3 });
});

Deno.test("sample: cuts in a large vocabulary with outliers", async () => {
  const V = 4001;
  const logits = normal(V, 9, 3);
  logits[17] = -1e9;
  logits[18] = -Infinity;
  logits[19] = NaN;
  // What the cut leaves is so even that every kept token comes up if it can.
  for (const cuts of [{ topK: 30 }, { topP: 0.05 }, { topK: 150, topP: 0.2 }, { minP: 0.3 }]) {
    await check(logits, { temperature: 4, ...cuts }, 4096);
  }
});

Deno.test("sample: wider workgroups draw the same", async () => {
  const logits = normal(1001, 8, 2);
  const gpu = await testGpu();
  const { limits } = gpu.facts;
  const { maxWorkgroupStorageBytes } = limits;
  for (const cuts of [{}, { topK: 40, topP: 0.7 }]) {
    const settings = { temperature: 1, seed: 3, ...cuts };
    const few = await draw(logits, settings, { rows: 3, steps: 4 });
    assertEquals(await asHardware(() => draw(logits, settings, { rows: 3, steps: 4 })), few);
    limits.maxWorkgroupStorageBytes = 16_384;
    try {
      assertEquals(await asHardware(() => draw(logits, settings, { rows: 3, steps: 4 })), few);
    } finally {
      limits.maxWorkgroupStorageBytes = maxWorkgroupStorageBytes;
    }
  }
});

Deno.test("sample: temperature 0 takes the largest, of equal ones the first", async () => {
  const logits = normal(50_003, 4);
  logits[40_001] = logits[40_002] = logits[50_002] = 9;
  const cuts = { topK: 3, topP: 0.5, minP: 0.1 };
  const { outputs } = await draw(logits, { temperature: 0, ...cuts, seed: 1 });
  assertEquals(outputs, [40_001]);
  assertEquals((await draw([-3, -0, 0, -1], { temperature: 0, seed: 1 })).outputs, [1]);
  assertEquals((await draw([-3e38, NaN, -1e38], { temperature: 0, seed: 1 })).outputs, [2]);
});

Deno.test("sample: a sequence's draws depend on nothing but its number and seed", async () => {
  const logits = normal(300, 5);
  const settings = { temperature: 1, topP: 0.9, seed: 3 };
  const together = await draw(logits, settings, { sequences: [4, 9, 2, 9], steps: 20 });
  const alone = await draw(logits, settings, { sequences: [9], steps: 20 });
  assertEquals(together.outputs.slice(20, 40), alone.outputs);
  assertEquals(together.outputs.slice(60), alone.outputs);
  assert(`${together.outputs.slice(0, 20)}` !== `${alone.outputs}`);
  const others = [{ ...settings, seed: 4 }, { ...settings, seed: 2 ** 31 }];
  for (const other of others) {
    const found = await draw(logits, other, { sequences: [9], steps: 20 });
    assert(`${found.outputs}` !== `${alone.outputs}`);
  }
});

Deno.test("sample: an end token ends its row, and only its row", async () => {
  const logits = normal(16, 6);
  const settings = { temperature: 1, seed: 2 };
  const shape = { rows: 8, steps: 30 };
  const free = await draw(logits, settings, shape);
  assertEquals(free.done, new Array(8).fill(1));
  assertEquals(free.counts, new Array(8).fill(30));
  const eosTokens = [11, 3];
  const found = await draw(logits, settings, { ...shape, eosTokens });
  for (let b = 0; b < 8; b++) {
    const all = free.outputs.slice(b * 30, b * 30 + 30);
    const end = all.findIndex((token) => eosTokens.includes(token));
    const length = end === -1 ? 30 : end + 1;
    assertEquals(found.counts[b], length);
    const padded = all.map((token, i) => i < length ? token : 7);
    assertEquals(found.outputs.slice(b * 30, b * 30 + 30), padded);
    assertEquals(found.next[b], all[length - 1]);
  }
  assert(found.counts.some((count) => count < 30));
});

Deno.test("sample: logits that are no numbers are an error of their row", async () => {
  for (
    const settings of [{ temperature: 1 }, { temperature: 0 }, {
      temperature: 1,
      topK: 2,
      topP: 0.5,
    }]
  ) {
    const wrong = await draw([NaN, Infinity, -Infinity, NaN, NaN], { ...settings, seed: 1 });
    assertEquals(wrong, { outputs: [7], next: [7], done: [1], counts: [0], errors: [1] });
  }
  const some = await draw([NaN, Infinity, 2, NaN, NaN], { temperature: 1, seed: 1 });
  assertEquals([some.outputs, some.errors], [[2], [0]]);
});

Deno.test("sample: more rows than workgroups in a dimension, and nothing written past them", async () => {
  const gpu = await testGpu();
  const B = 66_000;
  const sampler = createSampler(gpu, { sequences: { length: B }, maxNewTokens: 1, eosTokens: [] });
  const tensors = ["next", "done", "outputs", "counts", "errors"] as const;
  for (const name of tensors) {
    sampler[name] = guarded(gpu, name, sampler[name].shape);
    gpu.write(sampler[name], new Uint32Array(B));
  }
  const values = new Float32Array(B * 4);
  for (let b = 0; b < B; b++) values[b * 4 + b % 4] = 1;
  const logits = gpu.upload("logits", values, [B, 4]);
  sample(gpu, { logits, sampler }, { temperature: 0, seed: 1 });
  const read = await gpu.readWords(tensors.map((name) => sampler[name]));
  const wanted = {
    next: (b: number) => b % 4,
    done: () => 1,
    outputs: (b: number) => b % 4,
    counts: () => 1,
    errors: () => 0,
  };
  tensors.forEach((name, i) => {
    const words = new Uint32Array(read[i]);
    for (let b = 0; b < B; b++) {
      if (words[b] !== wanted[name](b)) throw new Error(`${name} of row ${b} is ${words[b]}`);
    }
    for (let w = B; w < words.length; w++) {
      if (words[w] !== 0x7fc0dead) throw new Error(`${name} was written past its end`);
    }
  });
  gpu.release(logits);
  releaseSampler(gpu, sampler);
});

Deno.test("sample refuses what cannot be", async () => {
  const gpu = await testGpu();
  const sampler = createSampler(gpu, { sequences: [0, 1], maxNewTokens: 1, eosTokens: [] });
  const logits = gpu.tensor("logits", [2, 6]);
  assertThrows(
    () => sample(gpu, { logits, sampler }, { temperature: 1, seed: 0 }),
    /Cannot sample 6 tokens from logits \(2,6\)/,
  );
  const right = gpu.tensor("logits", [2, 8]);
  assertThrows(
    () => sample(gpu, { logits: right, sampler }, { temperature: -1, seed: 0 }),
    /temperature -1/,
  );
});
