import { assert, assertEquals } from "@std/assert";
import { rounded } from "../../kernels/check/trial.ts";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import { linear, linearBackward, tuneMatmul } from "../../kernels/matmul.ts";
import { matmulKey, type MatmulVariant } from "../../kernels/matmul_variants.ts";
import {
  canBroadcast,
  destroyWeight,
  uploadWeight,
  type Weight,
  type WeightType,
} from "../../kernels/weight.ts";
import { assertThrows } from "../asserts.ts";
import { assertClose, guarded, normal, readGuarded, testGpu } from "../gpu.ts";
import { matmulReference } from "../../kernels/reference/matmul.ts";

type Shape = [M: number, N: number, K: number];
const dtypes = ["f32", "f16", "bf16"] as const;
const gpu = await testGpu();
const shapes: Shape[] = [[1, 4, 36], [3, 36, 4], [17, 100, 192], [130, 192, 100]];

/** Makes every product of this shape use a variant; with null, the default. */
function force(gpu: Gpu, [rows, N, K]: Shape, dtype: WeightType, variant: MatmulVariant | null) {
  for (const direction of ["forward", "backward"] as const) {
    const key = matmulKey({ rows, N, K, dtype, direction });
    if (variant) gpu.choices.set(key, variant);
    else gpu.choices.delete(key);
  }
}

/** Holds forward and backward, with and without accumulation, against the reference. */
async function compare(gpu: Gpu, shape: Shape, dtype: WeightType, layout?: (w: Weight) => void) {
  const [M, N, K] = shape;
  const x = normal(M * K, 1), dy = normal(M * N, 2), bias = normal(N, 3);
  const stored = rounded(normal(N * K, 4), dtype);
  const wanted = matmulReference({ x, dy, weight: stored.values, bias, M, N, K });
  const weight = uploadWeight(gpu, "weight", { dtype, shape: [N, K], bytes: stored.bytes });
  layout?.(weight);
  const given = {
    x: gpu.upload("x", x, [M, K]),
    dy: gpu.upload("dy", dy, [M, N]),
    bias: gpu.upload("bias", bias, [N]),
  };
  const y = guarded(gpu, "y", [M, N]);
  const dx = guarded(gpu, "dx", [M, K]);
  linear(gpu, { x: given.x, weight, bias: given.bias, y });
  linearBackward(gpu, { dy: given.dy, weight, dx });
  assertClose(await readGuarded(gpu, y), wanted.y, 1e-7, "y");
  assertClose(await readGuarded(gpu, dx), wanted.dx, 1e-7, "dx");
  linear(gpu, { x: given.x, weight, y }, { accumulate: true });
  linearBackward(gpu, { dy: given.dy, weight, dx }, { accumulate: true });
  const twice = wanted.y.map((value, i) => 2 * value - bias[i % N]);
  assertClose(await readGuarded(gpu, y), twice, 1e-7, "accumulated y");
  assertClose(await readGuarded(gpu, dx), wanted.dx.map((v) => 2 * v), 1e-7, "accumulated dx");
  await destroyWeight(gpu, weight);
  gpu.release(given.x, given.dy, given.bias, y, dx);
}

// The tile and split kernels compile for seconds on lavapipe. What differs between types is one
// text that all of them share, so tile_128 and split are held to one type each.
const cases: [MatmulVariant, readonly WeightType[]][] = [
  ["broadcast", dtypes],
  ["loop", dtypes],
  ["tile_64", dtypes],
  ["tile_128", ["f32"]],
  ["split", ["bf16"]],
];
for (const [variant, types] of cases) {
  for (const dtype of types) {
    const ignore = variant === "broadcast" && !canBroadcast(gpu);
    Deno.test(`matmul ${variant}, forward and backward, ${dtype}`, { ignore }, async () => {
      for (const shape of shapes) {
        force(gpu, shape, dtype, variant);
        await compare(gpu, shape, dtype);
        force(gpu, shape, dtype, null);
      }
    });
  }
}

const needsTexture = { ignore: !canBroadcast(gpu) };

Deno.test(
  "matmul broadcast serves every number of rows of a decode step",
  needsTexture,
  async () => {
    for (const M of [1, 2, 4, 5, 8, 9]) await compare(gpu, [M, 72, 64], "bf16");
  },
);

Deno.test("a weight past the largest binding is multiplied in row ranges", async () => {
  const { limits } = gpu.facts;
  const whole = limits.maxBindingBytes;
  const shape: Shape = [17, 196, 100];
  for (const variant of ["loop", "split", "tile_64"] as const) {
    force(gpu, shape, "bf16", variant);
    limits.maxBindingBytes = 65 * 200;
    try {
      await compare(gpu, shape, "bf16", (weight) => {
        assertEquals(weight.rows.map(({ first, count }) => [first, count]), [
          [0, 64],
          [64, 64],
          [128, 64],
          [192, 4],
        ]);
        limits.maxBindingBytes = whole;
      });
    } finally {
      limits.maxBindingBytes = whole;
      force(gpu, shape, "bf16", null);
    }
  }
});

Deno.test("a weight taller than a texture lies in panels", needsTexture, async () => {
  const { limits } = gpu.facts;
  const whole = limits.maxTextureSize;
  for (const dtype of dtypes) {
    limits.maxTextureSize = 128;
    try {
      await compare(gpu, [17, 196, 100], dtype, (weight) => {
        assertEquals(weight.texture?.rowBits, 6);
      });
    } finally {
      limits.maxTextureSize = whole;
    }
  }
});

Deno.test("a weight too large for a texture is kept in buffers", async () => {
  const { limits } = gpu.facts;
  const whole = limits.maxTextureSize;
  limits.maxTextureSize = 8;
  try {
    const bytes = new Uint8Array(64 * 64 * 2);
    const stored = { dtype: "bf16" as const, shape: [64, 64], bytes };
    const weight = uploadWeight(gpu, "weight", stored, ["multiplied"]);
    assertEquals([weight.texture, weight.rows.length], [null, 1]);
    await destroyWeight(gpu, weight);
  } finally {
    limits.maxTextureSize = whole;
  }
});

Deno.test("matmul over more rows than workgroups in a dimension", async () => {
  await compare(gpu, [65536 + 70, 4, 4], "bf16");
});

for (const variant of ["broadcast", "loop", "split", "tile_64"] as const) {
  const ignore = variant === "broadcast" && !canBroadcast(gpu);
  Deno.test(`NaN and Inf reach their row or column by ${variant} and nothing else`, {
    ignore,
  }, async () => {
    const [M, N, K] = [9, 12, 36];
    force(gpu, [M, N, K], "bf16", variant);
    const x = normal(M * K, 1), values = normal(N * K, 2);
    x[2 * K + 35] = NaN;
    x[4 * K + 35] = Infinity;
    values[5 * K + 7] = NaN;
    const { bytes } = rounded(values, "bf16");
    const weight = uploadWeight(gpu, "weight", { dtype: "bf16", shape: [N, K], bytes });
    const y = guarded(gpu, "y", [M, N]);
    linear(gpu, { x: gpu.upload("x", x, [M, K]), weight, y });
    const found = await readGuarded(gpu, y);
    for (let m = 0; m < M; m++) {
      for (let n = 0; n < N; n++) {
        const value = found[m * N + n];
        if (m === 2 || n === 5) assert(Number.isNaN(value), `y[${m}, ${n}] is ${value}`);
        else assertEquals(Number.isFinite(value), m !== 4, `y[${m}, ${n}] is ${value}`);
      }
    }
    await destroyWeight(gpu, weight);
    force(gpu, [M, N, K], "bf16", null);
  });
}

Deno.test("tuning leaves a choice that fits the weights of this adapter", async () => {
  const shape = { rows: 32, N: 64, K: 64, dtype: "bf16", direction: "forward" } as const;
  const { facts } = gpu;
  const software = facts.software;
  facts.software = false;
  try {
    await tuneMatmul(gpu, { shapes: [shape] });
    assert(["loop", "tile_64", "tile_128"].includes(gpu.choices.get(matmulKey(shape)) ?? "none"));
    const few = { ...shape, rows: 1 };
    await tuneMatmul(gpu, { shapes: [few] });
    assert(["split", "loop", "tile_64"].includes(gpu.choices.get(matmulKey(few)) ?? "none"));
    gpu.choices.delete(matmulKey(few));
    await compare(gpu, [32, 64, 64], "bf16");
  } finally {
    facts.software = software;
    gpu.choices.delete(matmulKey(shape));
  }
});

Deno.test("sizes that do not fit are refused", async () => {
  const stored = (N: number, K: number) => ({
    dtype: "bf16" as const,
    shape: [N, K],
    bytes: new Uint8Array(N * K * 2),
  });
  assertThrows(() => uploadWeight(gpu, "w", stored(6, 8)), /multiples of 4/);
  assertThrows(
    () => uploadWeight(gpu, "w", { ...stored(8, 8), bytes: new Uint8Array(4) }),
    /4 bytes found, 128 wanted/,
  );
  const weight = uploadWeight(gpu, "w", stored(8, 12));
  const x = gpu.tensor("x", [2, 8]), y = gpu.tensor("y", [2, 8]), wide = gpu.tensor("x", [2, 12]);
  assertThrows(() => linear(gpu, { x, weight, y }), /inner sizes 8 and 12 differ/);
  assertThrows(() => linear(gpu, { x: wide, weight, y: wide }), /\(2, 8\) wanted/);
  assertThrows(() => linear(gpu, { x: wide, weight, bias: wide, y }), /8 columns wanted/);
  await destroyWeight(gpu, weight);
});
