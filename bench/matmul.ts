// The matmul at the shapes of SmolLM2-135M, 256 tokens: the chosen variant, the universal fallback,
// and two other WebGPU libraries with f32 weights, as ratios within one run. On a GPU, where
// CPU time says nothing, only our own variants are compared, by the adapter's timestamps.
//   deno run -A bench/matmul.ts [--json] [--quick]

import { openGpu } from "../kernels/gpu/gpu.ts";
import { linear, linearBackward, tuneMatmul } from "../kernels/matmul.ts";
import { matmulKey, type MatmulShape } from "../kernels/matmul_variants.ts";
import { destroyWeight, uploadWeight, type WeightType } from "../kernels/weight.ts";
import { bestSeconds, cores } from "./timing.ts";

type Shape = [M: number, N: number, K: number];
const shapes: [name: string, Shape][] = [
  ["q, o", [256, 576, 576]],
  ["k, v", [256, 192, 576]],
  ["gate, up", [256, 1536, 576]],
  ["down", [256, 576, 1536]],
  ["decode 1", [1, 1536, 576]],
  ["decode 8", [8, 1536, 576]],
  ["decode 32", [32, 1536, 576]],
];
const dtypes: WeightType[] = ["bf16", "f16", "f32"];

interface Row {
  name: string;
  M: number;
  N: number;
  K: number;
  dtype: WeightType;
  direction: "forward" | "backward";
  gflops: number;
  firstMs: number;
  fallback: number;
  /** Times as fast as these libraries at the same product in f32. */
  jaxJs?: number;
  tfjs?: number;
}

const json = Deno.args.includes("--json");
const quick = Deno.args.includes("--quick");
const gpu = await openGpu();
const { software } = gpu.facts;

/** Seconds of one product, and milliseconds to its first result (compilation). */
async function seconds(record: () => void): Promise<{ best: number; firstMs: number }> {
  const begin = performance.now();
  record();
  await gpu.sync();
  const firstMs = performance.now() - begin;
  if (software) {
    const best = await bestSeconds(async (count) => {
      for (let i = 0; i < count; i++) record();
      await gpu.sync();
    });
    return { best, firstMs };
  }
  let best = Infinity;
  for (let round = 0; round < 5; round++) best = Math.min(best, await gpu.measure(record));
  return { best, firstMs };
}

async function measure(name: string, [M, N, K]: Shape, dtype: WeightType): Promise<Row[]> {
  const bytes = new Uint8Array(N * K * (dtype === "f32" ? 4 : 2)).fill(0x3c);
  const weight = uploadWeight(gpu, "weight", { dtype, shape: [N, K], bytes });
  const x = gpu.zeros("x", [M, K]), y = gpu.zeros("y", [M, N]);
  const rows: Row[] = [];
  for (const direction of ["forward", "backward"] as const) {
    const shape: MatmulShape = { rows: M, N, K, dtype, direction };
    const record = () => {
      if (direction === "forward") linear(gpu, { x, weight, y });
      else linearBackward(gpu, { dy: y, weight, dx: x });
    };
    await tuneMatmul(gpu, { shapes: [shape] });
    const chosen = await seconds(record);
    const key = matmulKey(shape), choice = gpu.choices.get(key);
    gpu.choices.set(key, "loop");
    const fallback = await seconds(record);
    if (choice) gpu.choices.set(key, choice);
    else gpu.choices.delete(key);
    rows.push({
      ...{ name, M, N, K, dtype, direction, firstMs: chosen.firstMs },
      gflops: 2 * M * N * K / chosen.best / 1e9,
      fallback: fallback.best / chosen.best,
    });
  }
  await destroyWeight(gpu, weight);
  await gpu.destroy(x, y);
  return rows;
}

/** The other libraries' best seconds a product, null where one cannot be loaded or fails. */
async function competitor(library: string): Promise<number[] | null> {
  const { success, stdout } = await new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "--no-lock", "--no-config", "-A"],
      new URL("matmul_competitors.ts", import.meta.url).pathname,
      library,
      JSON.stringify(shapes.map(([, shape]) => shape)),
    ],
    stderr: "null",
  }).output();
  if (!success) return null;
  const line = new TextDecoder().decode(stdout).trim().split("\n").at(-1) ?? "";
  return JSON.parse(line);
}

const rows: Row[] = [];
for (const dtype of quick ? dtypes.slice(0, 1) : dtypes) {
  for (const [name, shape] of shapes) rows.push(...await measure(name, shape, dtype));
}
if (software) {
  const others = { jaxJs: await competitor("jax-js"), tfjs: await competitor("tfjs") };
  for (const [library, found] of Object.entries(others) as ["jaxJs" | "tfjs", number[] | null][]) {
    for (const row of rows) {
      const theirs = found?.[shapes.findIndex(([name]) => name === row.name)];
      if (theirs) row[library] = theirs * row.gflops * 1e9 / (2 * row.M * row.N * row.K);
    }
  }
}

if (json) {
  console.log(JSON.stringify({ adapter: gpu.facts.description, cores, rows }));
} else {
  const cell = (text: string | number | undefined, width: number) =>
    (typeof text === "number" ? text.toFixed(1) : text ?? "-").padStart(width);
  console.log(`${gpu.facts.description}, ${cores} cores; x fallback, jax-js, tfjs: times as fast`);
  console.log(
    "product      M     N     K  type direction   GFLOP/s  first ms  fallback  jax-js  tfjs",
  );
  for (const row of rows) {
    const sizes = [row.M, row.N, row.K].map((size) => `${size}`.padStart(5)).join(" ");
    console.log(
      `${row.name.padEnd(9)} ${sizes} ${cell(row.dtype, 5)} ${row.direction.padEnd(9)} ` +
        `${cell(row.gflops, 9)} ${cell(row.firstMs, 9)} ${cell(row.fallback, 9)} ` +
        `${cell(row.jaxJs, 7)} ${cell(row.tfjs, 5)}`,
    );
  }
}
Deno.exit();
