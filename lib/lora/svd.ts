// The largest singular values of a matrix and their vectors, by a randomised block Krylov method
// (Musco and Musco 2015, algorithm 2): an orthonormal basis of span{Q, (W'W) Q, (W'W)^2 Q, ...} for a
// random block Q of eight columns, and the eigenvectors of W'W projected onto it. All in f64 on the CPU.
// The basis grows until the residuals say that the wanted space has converged; at full size it is exact.
// ml-matrix finds the eigenvectors of the small projected matrix. Its own SVD finds every triple of a weight:
// 5.3 s for one of (1536, 576), where eight triples take 0.6 to 1.1 s this way.

import { EigenvalueDecomposition, Matrix } from "ml-matrix";
import type { RandomGenerator } from "./random.ts";

const blockSize = 8;
/** Wanted angle between the found and the true space. */
const angleTolerance = 1e-6;
/** Below this, relative to the largest eigenvalue, a gap counts as none: equal singular values. */
const smallestGap = 1e-6;
/** Up to this many columns W'W is formed once: real weights need so many steps that it pays. */
const largestGram = 1024;

export interface TruncatedSvd {
  /** (rows, rank) row-major; at a singular value of zero the column of u or v may be zero. */
  u: Float64Array;
  /** (rank), descending. */
  s: Float64Array;
  /** (columns, rank) row-major. */
  v: Float64Array;
}

/** The `rank` largest singular triples of `weight` (rows, columns), row-major, without NaN and Inf. */
export function truncatedSvd(
  weight: Float32Array | Float64Array,
  rows: number,
  columns: number,
  rank: number,
  random: RandomGenerator,
): TruncatedSvd {
  if (rows < columns) {
    const flipped = truncatedSvd(transpose(weight, rows, columns), columns, rows, rank, random);
    return { u: flipped.v, s: flipped.s, v: flipped.u };
  }
  const matrix = Float64Array.from(weight);
  const normalTimes = normalOperator(matrix, rows, columns);
  /** Orthonormal vectors of `columns` numbers; and W'W times each. */
  const basis: Float64Array[] = [];
  const images: Float64Array[] = [];
  let projected: number[][] = [];
  let block = randomBlock(columns, Math.min(blockSize, columns), random);
  for (let nextCheck = Math.max(4 * blockSize, rank + blockSize);;) {
    orthogonalise(block, basis, random);
    const first = basis.length;
    basis.push(...block);
    images.push(...normalTimes(block));
    projected = extend(projected, basis, images, first);
    const size = basis.length;
    block = images.slice(first, first + columns - size).map((image) => image.slice());
    if (size < nextCheck && size < columns) continue;
    nextCheck = 1.2 * size;
    const ritz = symmetricEigen(projected);
    if (size === columns || converged(ritz, images.slice(first), basis, first, rank)) {
      return triples(matrix, rows, columns, rank, basis, ritz);
    }
  }
}

/** Eigenvalues descending, and the eigenvectors as the columns of a row-major (n, n) matrix. */
interface SymmetricEigen {
  values: Float64Array;
  vectors: Float64Array;
}

function symmetricEigen(matrix: number[][]): SymmetricEigen {
  const found = new EigenvalueDecomposition(new Matrix(matrix), { assumeSymmetric: true });
  const { realEigenvalues, eigenvectorMatrix } = found;
  const n = matrix.length;
  const order = realEigenvalues.map((_, k) => k)
    .sort((a, b) => realEigenvalues[b] - realEigenvalues[a]);
  const vectors = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let k = 0; k < n; k++) vectors[i * n + k] = eigenvectorMatrix.get(i, order[k]);
  }
  return { values: Float64Array.from(order, (k) => realEigenvalues[k]), vectors };
}

type Operator = (vectors: Float64Array[]) => Float64Array[];

/** W'W times up to eight vectors. */
function normalOperator(matrix: Float64Array, rows: number, columns: number): Operator {
  const transposed = transpose(matrix, rows, columns);
  if (columns <= largestGram) {
    const normal = gram(transposed, columns, rows);
    return (vectors) => multiply(normal, columns, columns, vectors);
  }
  return (vectors) => multiply(transposed, columns, rows, multiply(matrix, rows, columns, vectors));
}

/**
 * The residual of a Ritz pair lies in the part of the last block's images outside the basis; its norm
 * over the gap to the first unwanted eigenvalue bounds its angle (Davis and Kahan).
 */
function converged(
  { values, vectors }: SymmetricEigen,
  lastImages: Float64Array[],
  basis: Float64Array[],
  first: number,
  rank: number,
): boolean {
  const size = values.length;
  const outside = lastImages.map((image) => image.slice());
  for (const column of outside) removeProjection(column, basis);
  for (let k = 0; k < rank; k++) {
    const residual = new Float64Array(basis[0].length);
    for (const [j, column] of outside.entries()) {
      const weight = vectors[(first + j) * size + k];
      for (let i = 0; i < residual.length; i++) residual[i] += weight * column[i];
    }
    const gap = Math.max(values[k] - values[rank], smallestGap * values[0]);
    if (Math.sqrt(dot(residual, residual)) > angleTolerance * gap) return false;
  }
  return true;
}

/** Adds the rows and columns of the new basis vectors to basis' W'W basis. */
function extend(
  projected: number[][],
  basis: Float64Array[],
  images: Float64Array[],
  first: number,
): number[][] {
  const larger = projected.map((row) => [...row]);
  for (let i = first; i < basis.length; i++) larger.push(new Array(basis.length).fill(0));
  for (let j = first; j < basis.length; j++) {
    for (let i = 0; i < basis.length; i++) {
      const value = dot(basis[i], images[j]);
      larger[i][j] = value;
      if (i < first) larger[j][i] = value;
    }
  }
  return larger;
}

function triples(
  matrix: Float64Array,
  rows: number,
  columns: number,
  rank: number,
  basis: Float64Array[],
  { vectors }: SymmetricEigen,
): TruncatedSvd {
  const size = basis.length;
  const u = new Float64Array(rows * rank);
  const s = new Float64Array(rank);
  const v = new Float64Array(columns * rank);
  const right = Array.from({ length: Math.min(rank, size) }, (_, k) => {
    const column = new Float64Array(columns);
    for (let j = 0; j < size; j++) {
      const weight = vectors[j * size + k];
      for (let i = 0; i < columns; i++) column[i] += weight * basis[j][i];
    }
    return column;
  });
  for (let first = 0; first < right.length; first += blockSize) {
    const part = right.slice(first, first + blockSize);
    for (const [j, left] of multiply(matrix, rows, columns, part).entries()) {
      const k = first + j;
      s[k] = Math.sqrt(dot(left, left));
      for (let i = 0; i < columns; i++) v[i * rank + k] = part[j][i];
      // A value at rounding level of the largest has no direction of its own.
      if (s[k] <= 1e-12 * s[0]) s[k] = 0;
      else for (let i = 0; i < rows; i++) u[i * rank + k] = left[i] / s[k];
    }
  }
  return { u, s, v };
}

/** matrix (rows, columns) times up to eight vectors of `columns`; each product has `rows` numbers. */
function multiply(
  matrix: Float64Array,
  rows: number,
  columns: number,
  vectors: Float64Array[],
): Float64Array[] {
  const zero = vectors.length < blockSize ? new Float64Array(columns) : vectors[0];
  const x = new Float64Array(columns * blockSize);
  for (let k = 0; k < blockSize; k++) {
    const vector = vectors[k] ?? zero;
    for (let j = 0; j < columns; j++) x[j * blockSize + k] = vector[j];
  }
  const y = new Float64Array(rows * blockSize);
  for (let i = 0; i < rows; i++) multiplyRow(matrix, i * columns, columns, x, y, i * blockSize);
  return vectors.map((_, k) => {
    const product = new Float64Array(rows);
    for (let i = 0; i < rows; i++) product[i] = y[i * blockSize + k];
    return product;
  });
}

/** Eight dot products with one row at once: one read of the matrix serves eight sums. */
function multiplyRow(
  matrix: Float64Array,
  from: number,
  columns: number,
  x: Float64Array,
  y: Float64Array,
  to: number,
): void {
  let y0 = 0, y1 = 0, y2 = 0, y3 = 0, y4 = 0, y5 = 0, y6 = 0, y7 = 0;
  for (let j = 0, at = 0; j < columns; j++, at += 8) {
    const w = matrix[from + j];
    y0 += w * x[at];
    y1 += w * x[at + 1];
    y2 += w * x[at + 2];
    y3 += w * x[at + 3];
    y4 += w * x[at + 4];
    y5 += w * x[at + 5];
    y6 += w * x[at + 6];
    y7 += w * x[at + 7];
  }
  y[to] = y0;
  y[to + 1] = y1;
  y[to + 2] = y2;
  y[to + 3] = y3;
  y[to + 4] = y4;
  y[to + 5] = y5;
  y[to + 6] = y6;
  y[to + 7] = y7;
}

function randomBlock(size: number, count: number, random: RandomGenerator): Float64Array[] {
  return Array.from(
    { length: count },
    () => Float64Array.from({ length: size }, () => random.normal()),
  );
}

/** Makes the block orthonormal and orthogonal to the basis; a column that vanishes is drawn anew. */
function orthogonalise(
  block: Float64Array[],
  basis: Float64Array[],
  random: RandomGenerator,
): void {
  const before = [...basis];
  for (const column of block) {
    if (before.length >= column.length) break;
    let norm = Math.sqrt(dot(column, column));
    for (let attempt = 0;; attempt++) {
      removeProjection(column, before);
      const left = Math.sqrt(dot(column, column));
      for (let i = 0; i < column.length; i++) column[i] /= left;
      // Twice is enough (Kahan and Parlett), unless nothing but rounding was left.
      if (left > 1e-10 * norm || attempt > 3) break;
      for (let i = 0; i < column.length; i++) column[i] = random.normal();
      norm = Math.sqrt(dot(column, column));
    }
    removeProjection(column, before);
    const unit = Math.sqrt(dot(column, column));
    for (let i = 0; i < column.length; i++) column[i] /= unit;
    before.push(column);
  }
}

function removeProjection(column: Float64Array, basis: Float64Array[]): void {
  for (const direction of basis) {
    const amount = dot(direction, column);
    for (let i = 0; i < column.length; i++) column[i] -= amount * direction[i];
  }
}

function dot(a: Float64Array, b: Float64Array): number {
  let s0 = 0, s1 = 0, s2 = 0, s3 = 0;
  const whole = a.length & ~3;
  for (let i = 0; i < whole; i += 4) {
    s0 += a[i] * b[i];
    s1 += a[i + 1] * b[i + 1];
    s2 += a[i + 2] * b[i + 2];
    s3 += a[i + 3] * b[i + 3];
  }
  for (let i = whole; i < a.length; i++) s0 += a[i] * b[i];
  return s0 + s1 + s2 + s3;
}

/** a a' of a (size, length), symmetric, two rows by four at once. */
function gram(a: Float64Array, size: number, length: number): Float64Array {
  const result = new Float64Array(size * size);
  for (let i = 0; i < size; i += 2) {
    for (let j = 0; j <= i + 1; j += 4) gramTile(a, size, length, i, j, result);
  }
  for (let i = 0; i < size; i++) {
    for (let j = 0; j < i; j++) result[j * size + i] = result[i * size + j];
  }
  return result;
}

function gramTile(
  a: Float64Array,
  size: number,
  length: number,
  i: number,
  j: number,
  result: Float64Array,
): void {
  const row = (index: number) => Math.min(index, size - 1) * length;
  const i1 = row(i + 1) - row(i), from = row(i);
  const j0 = row(j) - from, j1 = row(j + 1) - from, j2 = row(j + 2) - from, j3 = row(j + 3) - from;
  let s00 = 0, s01 = 0, s02 = 0, s03 = 0, s10 = 0, s11 = 0, s12 = 0, s13 = 0;
  for (let k = from; k < from + length; k++) {
    const x0 = a[k], x1 = a[k + i1];
    const y0 = a[k + j0], y1 = a[k + j1], y2 = a[k + j2], y3 = a[k + j3];
    s00 += x0 * y0;
    s01 += x0 * y1;
    s02 += x0 * y2;
    s03 += x0 * y3;
    s10 += x1 * y0;
    s11 += x1 * y1;
    s12 += x1 * y2;
    s13 += x1 * y3;
  }
  const count = Math.min(4, size - j);
  result.set([s00, s01, s02, s03].slice(0, count), i * size + j);
  if (i + 1 < size) result.set([s10, s11, s12, s13].slice(0, count), (i + 1) * size + j);
}

function transpose(
  matrix: Float32Array | Float64Array,
  rows: number,
  columns: number,
): Float64Array {
  const result = new Float64Array(matrix.length);
  const tile = 32;
  for (let i0 = 0; i0 < rows; i0 += tile) {
    for (let j0 = 0; j0 < columns; j0 += tile) {
      for (let i = i0; i < Math.min(i0 + tile, rows); i++) {
        for (let j = j0; j < Math.min(j0 + tile, columns); j++) {
          result[j * rows + i] = matrix[i * columns + j];
        }
      }
    }
  }
  return result;
}
