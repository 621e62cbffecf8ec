// The ops that work on elements and rows, one way each: embedding, norms, RoPE, SwiGLU and the like.

import { add } from "../add.ts";
import { dropout } from "../dropout.ts";
import { embedding } from "../embedding.ts";
import {
  dropoutReference,
  ropeReference,
  swigluBackwardReference,
  swigluReference,
} from "../reference/elementwise.ts";
import { rmsNormReference } from "../reference/rms_norm.ts";
import { rmsNorm, rmsNormBackward } from "../rms_norm.ts";
import { rope, ropeBackward, ropeTable } from "../rope.ts";
import { gatherRows, scatterRows } from "../rows.ts";
import { swiglu, swigluBackward } from "../swiglu.ts";
import type { WeightType } from "../weight.ts";
import type { OpCheck, Trial } from "./trial.ts";

/** Rows and columns: more rows than a workgroup has lanes, neither a power of two. */
const T = 77, C = 36;

const oneWay = (op: string, record: (trial: Trial) => void): OpCheck => ({
  op,
  variants: () => ["only"],
  record,
});

const rmsNormCheck = oneWay("rms_norm", (trial) => {
  const x = trial.normal(T * C), weight = trial.normal(C), dy = trial.normal(T * C);
  const eps = 1e-5;
  const tensors = { x: trial.input(x, [T, C]), weight: trial.input(weight) };
  const y = trial.output([T, C]), dx = trial.output([T, C]);
  rmsNorm(trial.gpu, { ...tensors, y }, eps);
  const backward = { ...tensors, dy: trial.input(dy, [T, C]), dx };
  rmsNormBackward(trial.gpu, backward, eps);
  rmsNormBackward(trial.gpu, backward, eps, true);
  trial.expect(y, () => rmsNormReference(x, weight, dy, eps).y);
  trial.expect(dx, () => rmsNormReference(x, weight, dy, eps).dx.map((value) => 2 * value));
});

const ropeCheck = oneWay("rope", (trial) => {
  const shape = [T, 3, 12] as [number, number, number];
  const x = trial.normal(T * C);
  const frequencies = Float32Array.from({ length: 6 }, (_, i) => 10000 ** (-i / 6));
  const positions = Uint32Array.from({ length: T }, (_, t) => (t * 37) % 90);
  const given = {
    positions: trial.input(positions),
    table: trial.input(ropeTable(90, frequencies)),
  };
  const y = trial.output(shape, "f32", x), dx = trial.output(shape, "f32", x);
  rope(trial.gpu, { x: y, ...given });
  ropeBackward(trial.gpu, { x: dx, ...given });
  trial.expect(y, () => ropeReference(x, shape, positions, frequencies));
  trial.expect(dx, () => ropeReference(x, shape, positions, frequencies, -1));
});

const swigluCheck = oneWay("swiglu", (trial) => {
  const gate = trial.normal(T * C, 3), up = trial.normal(T * C), dy = trial.normal(T * C);
  const dgate = trial.output([T, C], "f32", gate), dup = trial.output([T, C], "f32", up);
  const y = trial.output([T, C]);
  swiglu(trial.gpu, { gate: dgate, up: dup, y });
  swigluBackward(trial.gpu, { gate: dgate, up: dup, dy: trial.input(dy, [T, C]) });
  trial.expect(y, () => swigluReference(gate, up));
  trial.expect(dgate, () => swigluBackwardReference(gate, up, dy).dgate);
  trial.expect(dup, () => swigluBackwardReference(gate, up, dy).dup);
});

const addCheck = oneWay("add", (trial) => {
  const a = trial.normal(T * C), b = trial.normal(T * C);
  const y = trial.output([T, C]);
  add(trial.gpu, { a: trial.input(a, [T, C]), b: trial.input(b, [T, C]), y });
  trial.expect(y, () => a.map((value, i) => value + b[i]));
});

export const dropoutCheck = oneWay("dropout", (trial) => {
  const x = trial.normal(T * C), p = 0.3, seed = 7;
  const y = trial.output([T, C]);
  const tensors = { x: trial.input(x, [T, C]), y };
  dropout(trial.gpu, tensors, { p, seed });
  dropout(trial.gpu, tensors, { p, seed, accumulate: true });
  trial.expect(y, () => dropoutReference(x, p, seed).map((value) => 2 * value));
});

const rowsCheck = oneWay("rows", (trial) => {
  const x = trial.normal(T * C), M = 19;
  const numbers = Uint32Array.from({ length: M }, (_, m) => (m * 29) % T);
  const rows = trial.input(numbers);
  const picked = trial.output([M, C]), back = trial.output([T, C], "f32", new Float32Array(T * C));
  gatherRows(trial.gpu, { x: trial.input(x, [T, C]), numbers: rows, y: picked });
  scatterRows(trial.gpu, { x: picked, numbers: rows, y: back });
  const row = (i: number) => Math.floor(i / C);
  trial.expect(
    picked,
    () => Float32Array.from({ length: M * C }, (_, i) => x[numbers[row(i)] * C + i % C]),
  );
  trial.expect(back, () => x.map((value, i) => numbers.includes(row(i)) ? value : 0));
});

export const elementwiseChecks: readonly OpCheck[] = [
  rmsNormCheck,
  ropeCheck,
  swigluCheck,
  addCheck,
  rowsCheck,
];

/** The embedding from a table of one stored type. */
export const embeddingCheck = (dtype: WeightType): OpCheck =>
  oneWay(`embedding from ${dtype}`, (trial) => {
    const { weight, values } = trial.weight(dtype, [52, C]);
    const tokens = Uint32Array.from({ length: T }, (_, t) => (t * 23) % 52);
    const x = trial.output([T, C]);
    embedding(trial.gpu, { tokens: trial.input(tokens), weight, x });
    trial.expect(
      x,
      () =>
        Float32Array.from(
          { length: T * C },
          (_, i) => values[tokens[Math.floor(i / C)] * C + i % C],
        ),
    );
  });
