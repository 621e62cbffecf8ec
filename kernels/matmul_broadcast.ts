// Writes the WGSL of the matmul for software adapters (lavapipe), where a buffer load costs eight
// branches and a loop over registers spills them, but straight-line arithmetic is cheap. Each
// invocation owns 8 neighbouring columns of 1 to 8 rows of the output; 8 inner elements a step:
//   x (rows, 8): one element a lane and row, handed round by subgroupBroadcast with literal lanes;
//   W (8, columns): texels of 16 bytes, in the stored type, expanded into registers; as a storage
//     texture, whose loads take half the time of a sampled one's.
// A step's products are summed pairwise before they join the long sum, which costs nothing and
// rounds less. Left out: shapes, bias and accumulation as constants (one text serves all of them, and
// pairs of runs show no cost), workgroup memory (a barrier there costs as much as 200 multiplications).

import type { Gpu } from "./gpu/gpu.ts";
import type { Kernel } from "./gpu/pipelines.ts";
import type { WeightType } from "./weight.ts";

export type Direction = "forward" | "backward";

/** Columns an invocation owns. */
export const columnsALane = 8;
/** Inner elements a step. */
const step = 8;
const steps = [0, 1, 2, 3, 4, 5, 6, 7] as const;

/** The most rows that stay in registers; more is slower and compiles for seconds. */
export const rowCounts = [1, 2, 4, 8] as const;
export type RowCount = typeof rowCounts[number];

const valuesATexel = { f32: 4, f16: 8, bf16: 8 };

/** WGSL for value `i` of the texel named `texel`. */
function unpacked(dtype: WeightType, texel: string, i: number): string {
  if (dtype === "f32") return `bitcast<f32>(${texel}.${"xyzw"[i]})`;
  const word = `${texel}.${"xyzw"[i >> 1]}`;
  if (dtype === "f16") return `unpack2x16float(${word}).${"xy"[i & 1]}`;
  return `bitcast<f32>(${word} ${i % 2 === 0 ? "<< 16u" : "& 0xffff0000u"})`;
}

/**
 * The lines that define w{column}_{inner} for 8 columns x 8 inner elements. Going forward a
 * column is a row of the weight, so a texel holds one column's inner elements; going back a texel
 * holds one inner element's columns.
 */
function weightLines(dtype: WeightType, direction: Direction): string[] {
  const lines: string[] = [];
  const values = valuesATexel[dtype];
  for (const outer of steps) {
    for (let first = 0; first < 8; first += values) {
      const texel = `t${outer}_${first}`;
      const at = direction === "forward"
        ? `vec2<u32>(panel + k / ${values}u + ${first / values}u, weight_row + ${outer}u)`
        : `vec2<u32>(panel + column / ${values}u + ${first / values}u, weight_row + ${outer}u)`;
      lines.push(`    let ${texel} = textureLoad(weight, ${at});`);
      for (let i = 0; i < values; i++) {
        const name = direction === "forward" ? `w${outer}_${first + i}` : `w${first + i}_${outer}`;
        lines.push(`    let ${name} = ${unpacked(dtype, texel, i)};`);
      }
    }
  }
  return lines;
}

/** One row's products of a step: 8 columns' pairwise sums of 8. */
function rowLines(row: number): string[] {
  const lines = steps.map((i) => `    let b${row}_${i} = subgroupBroadcast(x${row}, ${i}u);`);
  for (const column of steps) {
    const products = steps.map((i) => `b${row}_${i} * w${column}_${i}`);
    const [p0, p1, p2, p3, p4, p5, p6, p7] = products;
    lines.push(
      `    s${row}_${column} += ((${p0} + ${p1}) + (${p2} + ${p3}))` +
        ` + ((${p4} + ${p5}) + (${p6} + ${p7}));`,
    );
  }
  return lines;
}

function outputLines(row: number, biased: boolean): string[] {
  const lines = [
    `    if (first_row + ${row}u < params.rows) {`,
    `      let at = (first_row + ${row}u) * params.y_stride + column / 4u;`,
  ];
  for (const half of [0, 1]) {
    const sums = [0, 1, 2, 3].map((i) => `s${row}_${half * 4 + i}`).join(", ");
    lines.push(
      half === 0 ? "      {" : "      if (column + 4u < params.columns) {",
      `        var sum = vec4<f32>(${sums});`,
      ...(biased ? [`        if (params.biased == 1u) { sum += bias${half}; }`] : []),
      `        if (params.accumulate == 1u) { sum += y[at + ${half}u]; }`,
      `        y[at + ${half}u] = sum;`,
      "      }",
    );
  }
  lines.push("    }");
  return lines;
}

/** The WGSL for up to `rows` rows a workgroup. Bindings: x, weight, (bias,) y, params. */
function broadcastCode(dtype: WeightType, direction: Direction, rows: RowCount): string {
  const biased = direction === "forward";
  const rowNumbers = Array.from({ length: rows }, (_, row) => row);
  const forwardRow = [
    "  let panel = (column >> params.row_bits) * params.texels_a_row;",
    "  let weight_row = column & ((1u << params.row_bits) - 1u);",
  ];
  const backwardRow = [
    "    let panel = (k >> params.row_bits) * params.texels_a_row;",
    "    let weight_row = k & ((1u << params.row_bits) - 1u);",
  ];
  return [
    "struct Params {",
    // y_stride in vec4, the rest in elements.
    "  rows: u32, columns: u32, inner: u32, y_stride: u32,",
    "  row_bits: u32, texels_a_row: u32, accumulate: u32, biased: u32,",
    "}",
    "override workgroup_size: u32 = 8;",
    "@group(0) @binding(0) var<storage, read> x: array<f32>;",
    "@group(0) @binding(1) var weight: texture_storage_2d<rgba32uint, read>;",
    ...(biased ? ["@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;"] : []),
    `@group(0) @binding(${biased ? 3 : 2}) var<storage, read_write> y: array<vec4<f32>>;`,
    `@group(0) @binding(${biased ? 4 : 3}) var<uniform> params: Params;`,
    "@compute @workgroup_size(workgroup_size)",
    `fn ${direction}(`,
    "  @builtin(workgroup_id) group: vec3<u32>,",
    "  @builtin(local_invocation_index) lane: u32,",
    "  @builtin(subgroup_invocation_id) subgroup_lane: u32,",
    ") {",
    `  let first_row = group.x * ${rows}u;`,
    `  let column = (group.y * workgroup_size + lane) * ${columnsALane}u;`,
    `  let element = subgroup_lane & ${step - 1}u;`,
    "  let last_row = params.rows - 1u;",
    ...(direction === "forward" ? forwardRow : []),
    ...rowNumbers.map((row) =>
      `  let at${row} = min(first_row + ${row}u, last_row) * params.inner + element;`
    ),
    ...rowNumbers.flatMap((row) => steps.map((column) => `  var s${row}_${column} = 0.0;`)),
    `  for (var k = 0u; k < params.inner; k += ${step}u) {`,
    ...(direction === "backward" ? backwardRow : []),
    "    let inside = k + element < params.inner;",
    // All of x before all of W: the compiler spills less.
    ...rowNumbers.map((row) => `    let x${row} = select(0.0, x[at${row} + k], inside);`),
    ...weightLines(dtype, direction),
    ...rowNumbers.flatMap(rowLines),
    "  }",
    "  if (column < params.columns) {",
    ...(biased
      ? [
        "    var bias0 = vec4<f32>(0.0);",
        "    var bias1 = vec4<f32>(0.0);",
        "    if (params.biased == 1u) { bias0 = bias[column / 4u]; bias1 = bias[column / 4u + 1u]; }",
      ]
      : []),
    ...rowNumbers.flatMap((row) => outputLines(row, biased)),
    "  }",
    "}",
  ].join("\n");
}

const kernels = new Map<string, Kernel>();

/** The kernel for up to `rows` rows a workgroup; its workgroups are one subgroup wide. */
export function broadcastKernel(
  gpu: Gpu,
  { dtype, direction, rows }: { dtype: WeightType; direction: Direction; rows: RowCount },
): Kernel {
  const workgroupSize = gpu.facts.subgroupSize;
  const label = `matmul_broadcast.${direction}.${dtype}.${rows}`;
  const key = `${label}.${workgroupSize}`;
  const known = kernels.get(key);
  if (known) return known;
  const kernel = {
    label,
    code: broadcastCode(dtype, direction, rows),
    entryPoint: direction,
    constants: { workgroup_size: workgroupSize },
  };
  kernels.set(key, kernel);
  return kernel;
}
