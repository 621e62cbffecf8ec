// What training adds: LoRA's products, the losses, importance, and the optimizer.

import { adamw, adamwScalars } from "../adamw.ts";
import { crossEntropy, crossEntropyBackward } from "../cross_entropy.ts";
import { gradNorm } from "../grad_norm.ts";
import { grpoLoss } from "../grpo_loss.ts";
import { accumulateImportance, finishImportance } from "../importance.ts";
import { lora, loraBackwardInput, loraBackwardParameters, loraVariants } from "../lora.ts";
import { adamwReference } from "../reference/adamw.ts";
import {
  crossEntropyBackwardReference,
  crossEntropyReference,
  grpoBackwardReference,
  grpoReference,
} from "../reference/elementwise.ts";
import { importanceReference } from "../reference/importance.ts";
import { loraReference } from "../reference/lora.ts";
import type { OpCheck, Trial } from "./trial.ts";

const only = () => ["only"];

// More tokens than one split of the backward has.
const [T, K, N, R] = [301, 36, 20, 4];
const module = { offsetA: 0, offsetB: R * K + 4, inputs: K, outputs: N, r: R };
const elements = module.offsetB + N * R;
const scale = 1.7;

/** A module's parameters, x and dy, and what f64 makes of them. */
function adapted(trial: Trial) {
  const x = trial.normal(T * K), dy = trial.normal(T * N), phi = trial.normal(elements);
  const A = phi.subarray(0, R * K), B = phi.subarray(module.offsetB);
  return {
    x: trial.input(x, [T, K]),
    dy: trial.input(dy, [T, N]),
    phi: trial.input(phi),
    wanted: () => loraReference({ x, dy, A, B, scale }, { T, K, N, R }),
  };
}

export const loraCheck: OpCheck = {
  op: "lora",
  variants: only,
  record(trial) {
    const { x, phi, wanted } = adapted(trial);
    const start = trial.normal(T * N);
    const u = trial.output([T, R]), y = trial.output([T, N], "f32", start);
    lora(trial.gpu, { x, phi, u, y }, module, scale);
    trial.expect(u, () => wanted().u);
    trial.expect(y, () => wanted().y.map((value, i) => value + start[i]));
  },
};

const loraBackwardCheck: OpCheck = {
  op: "lora backward",
  variants: loraVariants,
  record(trial) {
    const { x, dy, phi, wanted } = adapted(trial);
    const start = { dx: trial.normal(T * K), grad: trial.normal(elements) };
    const u = trial.input(Float32Array.from(wanted().u), [T, R]), du = trial.output([T, R]);
    const dx = trial.output([T, K], "f32", start.dx);
    const grad = trial.output([elements], "f32", start.grad);
    loraBackwardInput(trial.gpu, { dy, phi, du, dx }, module, scale);
    loraBackwardParameters(trial.gpu, { x, u, dy, du, grad }, module, scale);
    trial.expect(dx, () => wanted().dx.map((value, i) => value + start.dx[i]));
    trial.expect(grad, () => {
      const { dA, dB } = wanted();
      const sum = Float64Array.from(start.grad);
      dA.forEach((value, i) => sum[i] += value);
      dB.forEach((value, i) => sum[module.offsetB + i] += value);
      return sum;
    });
  },
};

export const crossEntropyCheck: OpCheck = {
  op: "cross_entropy",
  variants: only,
  record(trial) {
    const [M, vocabulary, V] = [5, 301, 304], temperature = 0.7;
    const logits = trial.normal(M * V, 3), dlogp = trial.normal(M);
    const targets = Uint32Array.from({ length: M }, (_, m) => (m * 131) % vocabulary);
    const values = trial.output([M, 4]), gradient = trial.output([M, V], "f32", logits);
    const tensors = { logits: gradient, targets: trial.input(targets), values };
    crossEntropy(trial.gpu, tensors, { vocabulary, temperature });
    crossEntropyBackward(trial.gpu, { ...tensors, dlogp: trial.input(dlogp) }, {
      vocabulary,
      temperature,
    });
    const row = (m: number) => logits.subarray(m * V, m * V + vocabulary);
    const eachRow = (of: (m: number) => number[]) => [...targets.keys()].flatMap(of);
    trial.expect(values, () =>
      eachRow((m) => {
        const { logp, logSum, entropy } = crossEntropyReference(row(m), targets[m], temperature);
        const isLargest = row(m).every((x) => x <= row(m)[targets[m]]);
        return [logp, logSum, entropy, isLargest ? 1 : 0];
      }));
    trial.expect(gradient, () =>
      eachRow((m) => [
        ...crossEntropyBackwardReference(row(m), targets[m], temperature, dlogp[m]),
        ...new Array(V - vocabulary).fill(0),
      ]));
  },
};

const grpoLossCheck: OpCheck = {
  op: "grpo_loss",
  variants: only,
  record(trial) {
    const M = 77, settings = { epsilon: 0.2, epsilonHigh: 0.28, beta: 0.04 };
    const logp = trial.normal(M).map((x) => -Math.abs(x));
    const near = () => {
      const noise = trial.normal(M, 0.3);
      return logp.map((x, i) => x + noise[i]);
    };
    const old = near(), reference = near(), advantages = trial.normal(M);
    const weights = trial.normal(M).map(Math.abs);
    const rows = (logps: Float32Array) =>
      trial.input(Float32Array.from({ length: 4 * M }, (_, i) => i % 4 ? 0 : logps[i / 4]), [M, 4]);
    const dlogp = trial.output([M]), terms = trial.output([M, 4]);
    grpoLoss(trial.gpu, {
      values: rows(logp),
      oldValues: rows(old),
      referenceValues: rows(reference),
      advantages: trial.input(advantages),
      weights: trial.input(weights),
      dlogp,
      terms,
    }, { ...settings, useOld: true });
    const token = (i: number) => ({
      logp: logp[i],
      old: old[i],
      reference: reference[i],
      advantage: advantages[i],
      weight: weights[i],
    });
    trial.expect(dlogp, () => logp.map((_, i) => grpoBackwardReference(token(i), settings)));
    trial.expect(terms, () =>
      [...logp.keys()].flatMap((i) => {
        const ratio = Math.exp(logp[i] - old[i]), gap = reference[i] - logp[i];
        const isClipped = ratio * advantages[i] >
          Math.min(Math.max(ratio, 1 - settings.epsilon), 1 + settings.epsilonHigh) * advantages[i];
        const loss = grpoReference(token(i), settings);
        return [loss, Math.exp(gap) - gap - 1, isClipped ? 1 : 0, ratio];
      }));
  },
};

const importanceCheck: OpCheck = {
  op: "importance",
  variants: only,
  record(trial) {
    const elements = 1003;
    const phi = trial.normal(elements);
    const gradients = [trial.normal(elements), trial.normal(elements), trial.normal(elements)];
    const zeros = () => trial.output([elements], "f32", new Float32Array(elements));
    const sums = { s1: zeros(), s2: zeros(), carry1: zeros(), carry2: zeros() };
    const given = trial.input(phi), importance = trial.output([elements]);
    for (const g of gradients) {
      accumulateImportance(trial.gpu, { g: trial.input(g), phi: given, sums });
    }
    finishImportance(trial.gpu, { sums, importance }, gradients.length);
    trial.expect(sums.s1, () => importanceReference(gradients, phi).s1);
    trial.expect(sums.s2, () => importanceReference(gradients, phi).s2);
    trial.expect(importance, () => importanceReference(gradients, phi).importance);
  },
};

const adamwCheck: OpCheck = {
  op: "adamw",
  variants: only,
  record(trial) {
    const elements = 1003, rates = [1e-2, 3e-2];
    const list = Uint32Array.from({ length: elements }, (_, i) => i).filter((i) => i % 3 !== 1);
    const start = trial.normal(elements), gradients = rates.map(() => trial.normal(elements));
    const settings = { beta1: 0.9, beta2: 0.99, eps: 1e-8, weightDecay: 0.1, maxGradNorm: 1 };
    const phi = trial.output([elements], "f32", start);
    const moment = () => trial.output([list.length], "f32", new Float32Array(list.length));
    const m = moment(), v = moment(), indices = trial.input(list);
    const outcome = trial.output([4], "f32", new Float32Array(4));
    rates.forEach((lr, i) => {
      const hyper = trial.input(adamwScalars({ ...settings, lr, step: i + 1 }));
      const given = { g: trial.input(gradients[i]), indices, hyper, outcome };
      gradNorm(trial.gpu, given, list.length);
      adamw(trial.gpu, { phi, m, v, ...given }, list.length);
    });
    const stepped = () => {
      const state = {
        phi: Float64Array.from(start),
        m: new Float64Array(elements),
        v: new Float64Array(elements),
      };
      const norms = rates.map((lr, i) =>
        adamwReference(state, gradients[i], list, { ...settings, lr, step: i + 1 })
      );
      return { ...state, norm: norms[norms.length - 1] };
    };
    trial.expect(phi, () => stepped().phi);
    const compact = (values: Float64Array) => Array.from(list, (i) => values[i]);
    trial.expect(m, () => compact(stepped().m));
    trial.expect(v, () => compact(stepped().v));
    trial.expect(outcome, () => {
      const { norm } = stepped();
      return [norm, settings.maxGradNorm / (norm + 1e-6), 0, 0];
    });
  },
};

export const gradientChecks: readonly OpCheck[] = [
  loraBackwardCheck,
  grpoLossCheck,
  importanceCheck,
  adamwCheck,
];
