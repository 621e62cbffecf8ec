// LoRA (Hu et al. 2021): y += scale * (x A^T) B^T with A (R, K) and B (N, R).
// Forward: u = x A^T; y += s u B^T.  Backward, from dy: dB += s dy^T u; du = s dy B; dA += du^T x;
// dx += du A.  A and B are ranges of one flat parameter tensor, and so are their gradients, which
// accumulate. R, K and N are multiples of 4.

import { f32Word, type Gpu } from "./gpu/gpu.ts";
import type { Kernel } from "./gpu/pipelines.ts";
import type { Tensor } from "./gpu/tensor.ts";
import { variantOf } from "./gpu/variants.ts";
import index from "./index.wgsl" with { type: "text" };
import code from "./lora.wgsl" with { type: "text" };

const workgroupSize = 32;
/** Tokens one invocation sums on a GPU, where more invocations hide latency; a CPU takes all. */
const tokensPerSplit = 256;

const kernel = (entryPoint: string): Kernel => ({
  label: `lora.${entryPoint}`,
  code: index + code,
  entryPoint,
  constants: { workgroup_size: workgroupSize },
});
const nt = kernel("nt");
const nn = kernel("nn");
const tn = kernel("tn");
const sumSplits = kernel("sum_splits");

/** Where one module's A (R, K) and B (N, R) begin in the flat tensor, in elements. */
export interface LoraModule {
  offsetA: number;
  offsetB: number;
  /** N */
  outputs: number;
  /** K */
  inputs: number;
  /** R */
  r: number;
}

interface Product {
  a: Tensor;
  b: Tensor;
  c: Tensor;
  m: number;
  n: number;
  k: number;
  aOffset?: number;
  bOffset?: number;
  cOffset?: number;
  scale?: number;
  accumulate?: boolean;
  splits?: number;
}

function product(gpu: Gpu, which: Kernel, p: Product): void {
  const tiles = Math.ceil(p.m / 4) * (p.n / 4);
  const [x, y] = gpu.grid(Math.ceil(tiles / workgroupSize));
  const splits = p.splits ?? 1;
  gpu.run(which, [p.a, p.b, p.c], [x, y, splits], [
    p.m,
    p.n,
    p.k,
    (p.aOffset ?? 0) / 4,
    (p.bOffset ?? 0) / 4,
    (p.cOffset ?? 0) / 4,
    f32Word(p.scale ?? 1),
    p.accumulate ? 1 : 0,
    Math.ceil(p.k / splits),
  ]);
}

/** u (T, R) = x A^T, then y (T, N) += scale * u B^T, from x (T, K) and flat `phi`, all f32. */
export function lora(
  gpu: Gpu,
  { x, phi, u, y }: { x: Tensor; phi: Tensor; u: Tensor; y: Tensor },
  module: LoraModule,
  scale: number,
): void {
  const T = x.shape[0];
  const { inputs, outputs, r } = module;
  product(gpu, nt, { a: x, b: phi, c: u, m: T, n: r, k: inputs, bOffset: module.offsetA });
  product(gpu, nt, {
    a: u,
    b: phi,
    c: y,
    m: T,
    n: outputs,
    k: r,
    bOffset: module.offsetB,
    scale,
    accumulate: true,
  });
}

/** The input's side of the backward: du (T, R) = scale * dy B, then dx (T, K) (+)= du A. */
export function loraBackwardInput(
  gpu: Gpu,
  { dy, phi, du, dx }: { dy: Tensor; phi: Tensor; du: Tensor; dx: Tensor },
  module: LoraModule,
  scale: number,
  accumulate = true,
): void {
  const T = dy.shape[0];
  const { inputs, outputs, r } = module;
  product(gpu, nn, {
    a: dy,
    b: phi,
    c: du,
    m: T,
    n: r,
    k: outputs,
    bOffset: module.offsetB,
    scale,
  });
  product(gpu, nn, {
    a: du,
    b: phi,
    c: dx,
    m: T,
    n: inputs,
    k: r,
    bOffset: module.offsetA,
    accumulate,
  });
}

/** The parameters' side: flat `grad` gets dB += scale * dy^T u and dA += du^T x. */
export function loraBackwardParameters(
  gpu: Gpu,
  { x, u, dy, du, grad }: { x: Tensor; u: Tensor; dy: Tensor; du: Tensor; grad: Tensor },
  module: LoraModule,
  scale: number,
): void {
  const { inputs, outputs, r } = module;
  const T = x.shape[0];
  transposed(gpu, { a: dy, b: u, c: grad, m: outputs, n: r, k: T, cOffset: module.offsetB, scale });
  transposed(gpu, { a: du, b: x, c: grad, m: r, n: inputs, k: T, cOffset: module.offsetA });
}

/** How the parameters' gradients sum over tokens. */
export function loraVariants({ facts }: Gpu): readonly ("one sum" | "split sums")[] {
  return facts.software ? ["one sum", "split sums"] : ["split sums", "one sum"];
}

/** c += scale * a^T b, over tokens in splits of fixed size, so that two runs give the same bits. */
function transposed(gpu: Gpu, p: Product): void {
  const isSplit = variantOf(gpu, "lora backward", loraVariants(gpu)) === "split sums";
  const splits = isSplit ? Math.ceil(p.k / tokensPerSplit) : 1;
  if (splits === 1) return product(gpu, tn, { ...p, accumulate: true });
  const parts = gpu.tensor("lora.parts", [splits, p.m, p.n]);
  product(gpu, tn, { ...p, c: parts, cOffset: 0, splits });
  const count = p.m * p.n / 4;
  gpu.run(sumSplits, [parts, p.c], gpu.grid(Math.ceil(count / workgroupSize)), [
    count,
    splits,
    p.cOffset! / 4,
  ]);
  gpu.release(parts);
}
