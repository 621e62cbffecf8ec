// Eigenvalues and eigenvectors of a small symmetric matrix in f64: Householder reduction to
// tridiagonal form, then the implicit QL algorithm (EISPACK's tred2 and tql2, after JAMA's).

/** Eigenvalues descending, and the eigenvectors as the columns of a row-major (n, n) matrix. */
export interface SymmetricEigen {
  values: Float64Array;
  vectors: Float64Array;
}

/** @throws {RangeError} when the matrix holds NaN or Inf. */
export function symmetricEigen(matrix: readonly (readonly number[])[]): SymmetricEigen {
  const n = matrix.length;
  const v = Array.from(matrix, (row) => Float64Array.from(row));
  const d = new Float64Array(n);
  const e = new Float64Array(n);
  if (v.some((row) => row.some((value) => !Number.isFinite(value)))) {
    throw new RangeError("Cannot find eigenvalues: the matrix holds NaN or Inf");
  }
  tridiagonalise(v, d, e);
  const w = v.map((_, k) => Float64Array.from(v, (row) => row[k]));
  diagonalise(w, d, e);
  const order = Array.from(d.keys()).sort((a, b) => d[b] - d[a]);
  const vectors = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let k = 0; k < n; k++) vectors[i * n + k] = w[order[k]][i];
  }
  return { values: Float64Array.from(order, (k) => d[k]), vectors };
}

/** v becomes the transformation, d the diagonal, e the subdiagonal from index 1 (tred2). */
function tridiagonalise(v: Float64Array[], d: Float64Array, e: Float64Array): void {
  const n = d.length;
  d.set(v[n - 1]);
  for (let i = n - 1; i > 0; i--) {
    let scale = 0;
    for (let k = 0; k < i; k++) scale += Math.abs(d[k]);
    let h = 0;
    if (scale === 0) {
      e[i] = d[i - 1];
      for (let j = 0; j < i; j++) {
        d[j] = v[i - 1][j];
        v[i][j] = 0;
        v[j][i] = 0;
      }
    } else {
      for (let k = 0; k < i; k++) {
        d[k] /= scale;
        h += d[k] * d[k];
      }
      const f = d[i - 1];
      const g = f > 0 ? -Math.sqrt(h) : Math.sqrt(h);
      e[i] = scale * g;
      h -= f * g;
      d[i - 1] = f - g;
      e.fill(0, 0, i);
      reflect(v, d, e, i, h);
    }
    d[i] = h;
  }
  accumulate(v, d, n);
  e[0] = 0;
}

/** The similarity transformation by one Householder vector, kept in d and column i of v. */
function reflect(v: Float64Array[], d: Float64Array, e: Float64Array, i: number, h: number): void {
  for (let j = 0; j < i; j++) {
    const f = d[j];
    v[j][i] = f;
    let g = e[j] + v[j][j] * f;
    for (let k = j + 1; k < i; k++) {
      g += v[k][j] * d[k];
      e[k] += v[k][j] * f;
    }
    e[j] = g;
  }
  let sum = 0;
  for (let j = 0; j < i; j++) {
    e[j] /= h;
    sum += e[j] * d[j];
  }
  const half = sum / (h + h);
  for (let j = 0; j < i; j++) e[j] -= half * d[j];
  for (let j = 0; j < i; j++) {
    const f = d[j];
    const g = e[j];
    for (let k = j; k < i; k++) v[k][j] -= f * e[k] + g * d[k];
    d[j] = v[i - 1][j];
    v[i][j] = 0;
  }
}

function accumulate(v: Float64Array[], d: Float64Array, n: number): void {
  for (let i = 0; i < n - 1; i++) {
    v[n - 1][i] = v[i][i];
    v[i][i] = 1;
    const h = d[i + 1];
    if (h !== 0) {
      for (let k = 0; k <= i; k++) d[k] = v[k][i + 1] / h;
      for (let j = 0; j <= i; j++) {
        let g = 0;
        for (let k = 0; k <= i; k++) g += v[k][i + 1] * v[k][j];
        for (let k = 0; k <= i; k++) v[k][j] -= g * d[k];
      }
    }
    for (let k = 0; k <= i; k++) v[k][i + 1] = 0;
  }
  for (let j = 0; j < n; j++) {
    d[j] = v[n - 1][j];
    v[n - 1][j] = 0;
  }
  v[n - 1][n - 1] = 1;
}

/** d becomes the eigenvalues, the rows of w the eigenvectors (tql2, transposed for locality). */
function diagonalise(w: Float64Array[], d: Float64Array, e: Float64Array): void {
  const n = d.length;
  e.copyWithin(0, 1);
  e[n - 1] = 0;
  let shift = 0;
  let largest = 0;
  for (let l = 0; l < n; l++) {
    largest = Math.max(largest, Math.abs(d[l]) + Math.abs(e[l]));
    let m = l;
    while (m < n - 1 && Math.abs(e[m]) > Number.EPSILON * largest) m++;
    while (m > l && Math.abs(e[l]) > Number.EPSILON * largest) {
      let g = d[l];
      let p = (d[l + 1] - g) / (2 * e[l]);
      let r = p < 0 ? -Math.hypot(p, 1) : Math.hypot(p, 1);
      d[l] = e[l] / (p + r);
      d[l + 1] = e[l] * (p + r);
      const next = d[l + 1];
      let h = g - d[l];
      for (let i = l + 2; i < n; i++) d[i] -= h;
      shift += h;

      p = d[m];
      let c = 1, c2 = 1, c3 = 1, s = 0, s2 = 0;
      const start = e[l + 1];
      for (let i = m - 1; i >= l; i--) {
        c3 = c2;
        c2 = c;
        s2 = s;
        g = c * e[i];
        h = c * p;
        r = Math.hypot(p, e[i]);
        e[i + 1] = s * r;
        s = e[i] / r;
        c = p / r;
        p = c * d[i] - s * g;
        d[i + 1] = h + s * (c * g + s * d[i]);
        rotate(w[i], w[i + 1], c, s);
      }
      p = -s * s2 * c3 * start * e[l] / next;
      e[l] = s * p;
      d[l] = c * p;
    }
    d[l] += shift;
    e[l] = 0;
  }
}

function rotate(a: Float64Array, b: Float64Array, c: number, s: number): void {
  for (let k = 0; k < a.length; k++) {
    const next = b[k];
    b[k] = s * a[k] + c * next;
    a[k] = c * a[k] - s * next;
  }
}
