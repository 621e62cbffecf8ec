// Whole models against PyTorch, Transformers, PEFT and TRL (tests/golden/README.md): logits,
// log-probabilities, losses, every LoRA gradient, importance, kept sets, masked AdamW, GRPO.
// NMSE 1e-7 in f32; sets and inactive elements to the bit.

import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { attention, createAttentionWorkspace } from "../kernels/attention.ts";
import type { Gpu } from "../kernels/gpu/gpu.ts";
import { accumulateImportance, finishImportance, importanceSums } from "../kernels/importance.ts";
import { pack } from "../lib/data/pack.ts";
import { groupAdvantages, grpoPass, tokenWeights } from "../lib/train/grpo_loss.ts";
import { updateMetrics } from "../lib/train/grpo_metrics.ts";
import { createOptimizer } from "../lib/train/optimizer.ts";
import { grpoSettings } from "../lib/train/settings.ts";
import { generate } from "../lib/model/generate.ts";
import { logitsOf } from "../lib/model/head.ts";
import { forward, pass, type Policy, releaseBatch, uploadBatch } from "../lib/model/pass.ts";
import { type GoldenCase, goldenCases, openGolden } from "./golden.ts";

import { assertClose, testGpu } from "./gpu.ts";

/** Runs the batch of a prefix with dL/dlogp the same for every scored token; (logp, …) rows come back. */
async function run(
  gpu: Gpu,
  policy: Policy,
  golden: GoldenCase,
  prefix = "",
  dlogp?: number,
): Promise<Float32Array> {
  const batch = uploadBatch(gpu, golden.decoder, golden.packed(prefix));
  const values = gpu.tensor("values", [batch.M, 4]);
  const objective = dlogp === undefined
    ? undefined
    : { dlogp: gpu.upload("dlogp", new Float32Array(batch.M).fill(dlogp)) };
  pass(gpu, policy, { batch, values }, { objective });
  const rows = await gpu.readFloats(values);
  releaseBatch(gpu, batch);
  return rows;
}

for (const name of goldenCases) {
  Deno.test(`golden ${name}: log-probabilities, loss and every LoRA gradient`, async () => {
    const gpu = await testGpu();
    const golden = await openGolden(gpu, name);
    const { adapter, decoder, json, layout } = golden;
    const rows = await run(gpu, { decoder, adapter }, golden, "", -1 / json.answer_tokens);
    const logps = rows.filter((_, i) => i % 4 === 0);
    const mask = golden.integers("loss_mask");
    assertClose(logps, golden.floats("logps").filter((_, t) => mask[t] === 1), 1e-7, "logps");
    const loss = -logps.reduce((sum, x) => sum + x, 0) / json.answer_tokens;
    assertClose([loss], [json.loss], 1e-10, "loss");

    const grad = await gpu.readFloats(adapter.grad!);
    for (const { name, offset, rows, columns } of layout.tensors) {
      assertClose(
        grad.subarray(offset, offset + rows * columns),
        golden.floats(`grad.base_model.model.${name}`),
        1e-7,
        `gradient of ${name}`,
      );
    }
  });
}

/** Logits of every position of packed samples, (T, V). */
async function logitsOfAll(
  gpu: Gpu,
  { decoder, adapter }: Policy,
  samples: { tokens: Uint32Array; promptLength: number }[],
): Promise<Float32Array> {
  const batch = uploadBatch(gpu, decoder, pack(samples));
  const { segments, positions, tokens } = batch;
  const workspace = createAttentionWorkspace(gpu, segments, decoder.config.heads);
  const context = { gpu, decoder, adapter, dropout: null, positions };
  const x = forward(
    context,
    tokens,
    (_, q, k, v, y) => attention(gpu, { q, k, v, y, segments, workspace }),
  );
  const padded = await gpu.readFloats(logitsOf(gpu, decoder, x));
  const V = decoder.config.vocabSize, columns = decoder.head.shape[0];
  return padded.filter((_, i) => i % columns < V);
}

for (const name of goldenCases) {
  Deno.test(`golden ${name}: logits, with the adapter and without`, async () => {
    const gpu = await testGpu();
    const opened = await openGolden(gpu, name);
    const samples = opened.samples("");
    const { decoder, adapter } = opened;
    assertClose(await logitsOfAll(gpu, { decoder, adapter }, samples), opened.floats("logits"));
    const base = await logitsOfAll(gpu, { decoder, adapter: null }, samples.slice(1, 2));
    assertClose(base, opened.floats("base.logits"));
  });
}

/** Reference adapter with what a test needs to move it. */
async function golden(name: string) {
  const gpu = await testGpu();
  const opened = await openGolden(gpu, name);
  return { gpu, ...opened, policy: { decoder: opened.decoder, adapter: opened.adapter }, opened };
}

for (const name of goldenCases) {
  Deno.test(`golden ${name}: importance sums and scores, example by example`, async () => {
    const { gpu, adapter, policy, opened } = await golden(name);
    for (const system of ["system1", "system2"]) {
      const sums = importanceSums(gpu, system, opened.layout.elements);
      const examples = opened.samples(`${system}.`);
      for (const [i, example] of examples.entries()) {
        gpu.clear(adapter.grad!);
        const batch = uploadBatch(gpu, opened.decoder, pack([example]));
        const values = gpu.tensor("values", [batch.M, 4]);
        const dlogp = gpu.upload("dlogp", new Float32Array(batch.M).fill(-1 / batch.M));
        pass(gpu, policy, { batch, values }, { objective: { dlogp } });
        accumulateImportance(gpu, { g: adapter.grad!, phi: adapter.phi, sums });
        const rows = await gpu.readFloats(values);
        const loss = -rows.filter((_, j) => j % 4 === 0).reduce((sum, x) => sum + x, 0) / batch.M;
        assertClose([loss], [opened.json[`${system}.losses`][i]], 1e-10, `${system} loss ${i}`);
      }
      const importance = gpu.tensor("importance", [opened.layout.elements]);
      finishImportance(gpu, { sums, importance }, examples.length);
      const floats = (tensor: string) => opened.floats(`${system}.${tensor}`);
      assertClose(await gpu.readFloats(sums.s1), floats("s1"), 1e-7, `${system} S1`);
      assertClose(await gpu.readFloats(sums.s2), floats("s2"), 1e-7, `${system} S2`);
      assertClose(await gpu.readFloats(importance), floats("importance"), 1e-7, `${system} I`);
    }
  });

  Deno.test(`golden ${name}: ten masked AdamW steps; inactive elements keep every bit`, async () => {
    const { gpu, adapter, policy, opened } = await golden(name);
    const { adamw, answer_tokens: answerTokens } = opened.json;
    const kept = opened.integers("system1.kept.0.9");
    const active = kept.flatMap((bit, index) => bit ? [index] : []);
    const indices = gpu.upload("active", Uint32Array.from(active));
    const optimizer = createOptimizer(
      gpu,
      { phi: adapter.phi, grad: adapter.grad! },
      { indices, count: active.length },
      {
        adam_beta1: adamw.betas[0],
        adam_beta2: adamw.betas[1],
        adam_epsilon: adamw.eps,
        weight_decay: adamw.weight_decay,
        max_grad_norm: adamw.max_grad_norm,
      },
    );
    const losses: number[] = [], norms: number[] = [];
    for (let step = 0; step < 10; step++) {
      gpu.clear(adapter.grad!);
      const rows = await run(gpu, policy, opened, "", -1 / answerTokens);
      losses.push(
        -rows.filter((_, i) => i % 4 === 0).reduce((sum, x) => sum + x, 0) / answerTokens,
      );
      optimizer.step(adamw.lr);
      norms.push((await gpu.readFloats(optimizer.gradNorm))[0]);
    }
    assertClose(losses, opened.json["adamw.losses"], 1e-9, "losses");
    assertClose(norms, opened.json["adamw.grad_norms"], 1e-7, "gradient norms");
    const phi = await gpu.readFloats(adapter.phi);
    const start = opened.floats("phi"), wanted = opened.floats("adamw.phi");
    const change = (values: ArrayLike<number>) =>
      Float64Array.from(start, (value, i) => values[i] - value);
    assertClose(change(phi), change(wanted), 1e-7, "change of phi");
    const bits = new Uint32Array(phi.buffer), before = new Uint32Array(start.buffer);
    const moved = kept.filter((bit, i) => !bit && bits[i] !== before[i]).length;
    if (moved > 0) throw new Error(`${moved} inactive elements changed`);
  });
}

for (const name of goldenCases) {
  Deno.test(`golden ${name}: greedy generation with a KV cache`, async () => {
    const { gpu, policy, opened } = await golden(name);
    const request = {
      prompts: opened.samples("").map(({ tokens, promptLength }) => tokens.slice(0, promptLength)),
      completionsPerPrompt: 1,
      maxNewTokens: 12,
      temperature: 0,
      topK: 0,
      topP: 1,
      minP: 0,
      seed: 0,
      eosTokens: [],
    };
    const wanted = opened.integers("generated");
    const together = await generate(gpu, policy, request);
    assertEquals(together.flatMap(({ tokens }) => [...tokens]), wanted);
    // Two completions a prompt, read back every three steps, streamed.
    const streamed: number[][] = Array.from({ length: 6 }, () => []);
    const twice = await generate(gpu, policy, { ...request, completionsPerPrompt: 2 }, {
      stepsPerRead: 3,
      onTokens: (row, tokens) => streamed[row].push(...tokens) > 0,
    });
    for (const [row, { tokens, finished }] of twice.entries()) {
      const own = wanted.slice(Math.floor(row / 2) * 12, Math.floor(row / 2) * 12 + 12);
      assertEquals([[...tokens], streamed[row], finished], [own, own, false]);
    }
  });

  Deno.test(`golden ${name}: a generation ends at its end token`, async () => {
    const { gpu, policy, opened } = await golden(name);
    const [first] = opened.samples("");
    const wanted = opened.integers("generated").slice(0, 12);
    const [{ tokens, finished }] = await generate(gpu, policy, {
      prompts: [first.tokens.slice(0, first.promptLength)],
      completionsPerPrompt: 1,
      maxNewTokens: 12,
      temperature: 0,
      topK: 0,
      topP: 1,
      minP: 0,
      seed: 0,
      eosTokens: [wanted[4]],
    });
    assertEquals([...tokens], wanted.slice(0, wanted.indexOf(wanted[4]) + 1));
    assert(finished);
  });
}

for (const name of ["llama_gqa_tied", "qwen3"]) {
  for (const lossType of ["grpo", "dr_grpo", "dapo"] as const) {
    for (const onPolicy of [false, true]) {
      const key = onPolicy ? `${lossType}.on_policy` : lossType;
      Deno.test(`golden ${name}: GRPO loss and gradient, ${key}`, async () => {
        const { gpu, adapter, policy, opened } = await golden(name);
        const { grpo } = opened.json;
        const samples = opened.samples("grpo.");
        const rewards = [...opened.floats("grpo.rewards")];
        const advantages = [0, 4].flatMap((first) =>
          groupAdvantages(rewards.slice(first, first + 4), true)
        );
        assertClose(advantages, opened.floats("grpo.advantages"), 1e-12, "advantages");
        const packed = pack(samples);
        const weights = tokenWeights(
          samples.map(({ tokens, promptLength }) => tokens.length - promptLength),
          samples.map(() => false),
          { loss_type: lossType, max_completion_length: grpo.max_completion_length },
        );
        const rowsOf = (tensor: string) => {
          const logps = opened.floats(tensor);
          const rows = new Float32Array(packed.lossPositions.length * 4);
          packed.lossPositions.forEach((t, i) => rows[i * 4] = logps[t]);
          return gpu.upload(tensor, rows, [packed.lossPositions.length, 4]);
        };
        const perToken = (values: number[]) =>
          gpu.upload("per token", Float32Array.from(packed.lossSegments, (s) => values[s]));
        const batch = uploadBatch(gpu, opened.decoder, packed);
        const terms = gpu.tensor("terms", [batch.M, 4]);
        const values = gpu.tensor("values", [batch.M, 4]);
        grpoPass({ gpu, ...policy }, batch, {
          values,
          oldValues: rowsOf("grpo.old_logps"),
          referenceValues: rowsOf("grpo.ref_logps"),
          advantages: perToken(advantages),
          weights: perToken(weights),
          dlogp: gpu.tensor("dlogp", [batch.M]),
          terms,
        }, {
          epsilon: grpo.epsilon,
          epsilon_high: grpo.epsilon_high,
          beta: onPolicy ? 0 : grpo.beta,
          temperature: grpoSettings.parse({ kind: "grpo" }).temperature,
        }, !onPolicy);
        const metrics = updateMetrics([{
          update: {
            packed,
            moves: true,
            advantages: Float32Array.from(packed.lossSegments, (s) => advantages[s]),
            weights: Float32Array.from(packed.lossSegments, (s) => weights[s]),
          },
          values: await gpu.readFloats(values),
          terms: await gpu.readFloats(terms),
        }], onPolicy ? 0 : grpo.beta);
        const wanted: Record<string, number> = { loss: grpo.losses[key], ...grpo.metrics[key] };
        assertStrictEquals("kl" in metrics, "kl" in wanted);
        for (const [metric, value] of Object.entries(wanted)) {
          const error = Math.abs(metrics[metric] - value);
          assert(error <= 1e-6 * Math.max(1, value), `${metric}: ${metrics[metric]}, not ${value}`);
        }
        assertClose(
          await gpu.readFloats(adapter.grad!),
          opened.floats(`grpo.${key}.grad`),
          1e-7,
          "gradient",
        );
      });
    }
  }
}
