import { assert } from "@std/assert";
import { randomGenerator } from "../../../lib/lora/random.ts";
import { truncatedSvd } from "../../../lib/lora/svd.ts";

import { nmse } from "../../gpu.ts";

/** (rows, count) row-major with orthonormal columns. */
function orthonormal(rows: number, count: number, name: string): Float64Array {
  const random = randomGenerator(11, name);
  const q = Float64Array.from({ length: rows * count }, () => random.normal());
  for (let pass = 0; pass < 2; pass++) {
    for (let k = 0; k < count; k++) {
      for (let other = 0; other < k; other++) {
        let dot = 0;
        for (let i = 0; i < rows; i++) dot += q[i * count + k] * q[i * count + other];
        for (let i = 0; i < rows; i++) q[i * count + k] -= dot * q[i * count + other];
      }
      let squares = 0;
      for (let i = 0; i < rows; i++) squares += q[i * count + k] ** 2;
      for (let i = 0; i < rows; i++) q[i * count + k] /= Math.sqrt(squares);
    }
  }
  return q;
}

/** The sum of the first `rank` of `s.length` triples. */
function product(
  { u, s, v }: { u: Float64Array; s: ArrayLike<number>; v: Float64Array },
  rows: number,
  columns: number,
  rank: number,
): Float64Array {
  const count = s.length;
  const result = new Float64Array(rows * columns);
  for (let i = 0; i < rows; i++) {
    for (let k = 0; k < rank; k++) {
      const left = u[i * count + k] * s[k];
      for (let j = 0; j < columns; j++) result[i * columns + j] += left * v[j * count + k];
    }
  }
  return result;
}

/** Relative distance of the best approximation of rank `rank` from the one found. */
function deviation(rows: number, columns: number, s: number[], rank: number): number {
  const true_ = { u: orthonormal(rows, s.length, "u"), s, v: orthonormal(columns, s.length, "v") };
  const matrix = product(true_, rows, columns, s.length);
  const found = truncatedSvd(matrix, rows, columns, rank, randomGenerator(1, "svd"));
  for (let k = 0; k < rank; k++) {
    assert(Math.abs(found.s[k] - s[k]) <= 1e-10 * s[0], `s[${k}] is ${found.s[k]}, wanted ${s[k]}`);
  }
  return Math.sqrt(
    nmse(product(found, rows, columns, rank), product(true_, rows, columns, rank)),
  );
}

const falling = (count: number, ratio: number) =>
  Array.from({ length: count }, (_, k) => 5 * ratio ** k);

Deno.test("svd: the best approximation of planted spectra, to 1e-6", () => {
  const cases: [string, number, number, number[], number][] = [
    ["tall, falling", 120, 50, falling(50, 0.8), 8],
    ["wide, falling slowly", 60, 200, falling(60, 0.99), 8],
    ["more columns than basis blocks", 300, 260, falling(260, 0.995), 4],
    ["rank 1", 40, 30, falling(30, 0.9), 1],
    ["every direction", 20, 12, falling(12, 0.9), 12],
    ["rank past one block", 90, 80, falling(80, 0.9), 24],
    ["far apart", 50, 40, [1e6, 1, 1e-3, 1e-4], 2],
    ["equal wanted values", 70, 60, [3, 3, 3, 3, ...falling(40, 0.9).map((x) => x / 5)], 4],
    ["fewer values than asked", 30, 20, [2, 1], 2],
  ];
  for (const [name, rows, columns, s, rank] of cases) {
    const found = deviation(rows, columns, s, rank);
    assert(found < 1e-6, `${name}: off by ${found.toExponential(2)}`);
  }
});

Deno.test("svd: a matrix of zeros and one of lower rank than asked have zeros, no NaN", () => {
  const zero = truncatedSvd(new Float32Array(30), 5, 6, 3, randomGenerator(1, "zero"));
  assert(zero.s.every((value) => value === 0));
  for (const values of [zero.u, zero.v]) assert(values.every(Number.isFinite));
  const ones = truncatedSvd(new Float32Array(600).fill(1), 20, 30, 4, randomGenerator(1, "ones"));
  assert(Math.abs(ones.s[0] - Math.sqrt(600)) < 1e-10);
  assert(ones.s.subarray(1).every((value) => value === 0));
  for (const values of [ones.u, ones.v]) assert(values.every(Number.isFinite));
  assert(nmse(product(ones, 20, 30, 4), new Float64Array(600).fill(1)) < 1e-24);
});

Deno.test("svd: the identity, where no direction is better, still gives orthonormal ones", () => {
  const n = 24;
  const identity = Float32Array.from({ length: n * n }, (_, i) => i % (n + 1) === 0 ? 1 : 0);
  const { u, s, v } = truncatedSvd(identity, n, n, 3, randomGenerator(1, "identity"));
  for (const vectors of [u, v]) {
    for (let a = 0; a < 3; a++) {
      for (let b = 0; b < 3; b++) {
        let dot = 0;
        for (let i = 0; i < n; i++) dot += vectors[i * 3 + a] * vectors[i * 3 + b];
        assert(Math.abs(dot - (a === b ? 1 : 0)) < 1e-12);
      }
    }
  }
  assert(s.every((value) => Math.abs(value - 1) < 1e-12));
});
