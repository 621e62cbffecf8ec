import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import type { Gpu } from "../../../kernels/gpu/gpu.ts";
import type { Tensor } from "../../../kernels/gpu/tensor.ts";
import type { System } from "../../../lib/data/record.ts";
import { InvalidRequest, NumericError } from "../../../lib/errors.ts";
import { layoutOfTensors, type LoraLayout } from "../../../lib/lora/layout.ts";
import { openSafetensors, type SafetensorsFile } from "../../../lib/model/safetensors.ts";
import {
  activeElements,
  cutPartition,
  partitionAdapter,
  releasePartition,
} from "../../../lib/par/partition.ts";
import { assertRejects } from "../../asserts.ts";
import { assertClose, normal, testGpu } from "../../gpu.ts";
import { importanceReference } from "../../../kernels/reference/importance.ts";

const golden = new URL("../../golden/", import.meta.url).pathname;

interface Golden {
  file: SafetensorsFile;
  values: {
    lora_layout: { name: string; shape: number[] }[];
    kept_counts: Record<string, number>;
    "regions.0.9": { jaccard: number } & Record<string, number>;
  };
  layout: LoraLayout;
}

function openGolden(name: string): Golden {
  const values = JSON.parse(Deno.readTextFileSync(`${golden}${name}/values.json`));
  const shapes = values.lora_layout.map((entry: { name: string; shape: number[] }) =>
    [entry.name.replace("base_model.model.", ""), entry.shape] as const
  );
  return {
    file: openSafetensors(`${golden}${name}/values.safetensors`),
    values,
    layout: layoutOfTensors(new Map(shapes), name),
  };
}

function uploadImportance(gpu: Gpu, file: SafetensorsFile) {
  const read = (system: string) => file.readFloat32(`${system}.importance`).data;
  return {
    system1: gpu.upload("importance1", read("system1")),
    system2: gpu.upload("importance2", read("system2")),
  };
}

async function readBytes(gpu: Gpu, tensor: Tensor): Promise<Uint8Array> {
  const [words] = await gpu.readWords([tensor]);
  return new Uint8Array(words, 0, tensor.shape[0]);
}

for (const name of ["llama_gqa_tied", "llama_untied", "qwen2", "qwen3"]) {
  Deno.test(`partition: ${name} has PyTorch's kept sets, regions and phases`, async () => {
    const gpu = await testGpu();
    const { file, values, layout } = openGolden(name);
    for (const theta of [0.3, 0.5, 0.9, 0.95]) {
      const settings = { theta, alpha: 0.5, beta: 0.5 };
      const partition = await cutPartition(gpu, layout, uploadImportance(gpu, file), settings);
      const regions = await readBytes(gpu, partition.regions);
      for (const [bit, system] of ["system1", "system2"].entries()) {
        const kept = regions.map((code) => (code >> bit) & 1);
        assertEquals(kept, file.read(`${system}.kept.${theta}`).bytes, `${system} at ${theta}`);
        const count = kept.reduce((sum, one) => sum + one, 0);
        assertStrictEquals(count, values.kept_counts[`${system}.${theta}`]);
        const importance = file.readFloat32(`${system}.importance`).data;
        assertStrictEquals(
          partition.report.thresholds[system as System],
          Math.min(...importance.filter((_, i) => kept[i] === 1)),
        );
      }
      if (theta === 0.9) {
        assertEquals(regions, file.read("regions.0.9").bytes);
        const { jaccard, ...counts } = values["regions.0.9"];
        const { report } = partition;
        assertEquals({ ...report.counts }, counts);
        assertStrictEquals(report.jaccard, jaccard);
        assertStrictEquals(report.fractions.shared, counts.shared / layout.elements);
        const active = await readBytes(gpu, partition.active);
        const phases = ["phase1.0.9.alpha0.5", "phase2.0.9.beta0.5"];
        for (const [bit, key] of phases.entries()) {
          const mask = active.map((byte) => (byte >> bit) & 1);
          const wanted = file.read(key).bytes;
          assertEquals(mask, wanted, key);
          const list = await activeElements(gpu, layout, partition.active, 1 << bit);
          const indices = await gpu.readUints(list.indices);
          assertEquals([...indices], [...wanted.keys()].filter((i) => wanted[i] === 1));
          assertStrictEquals(list.count, [report.active.phase1, report.active.phase2][bit]);
        }
      }
      for (const [index, tensor] of layout.tensors.entries()) {
        const { layer, projection, matrix, offset, rows, columns } = tensor;
        const codes = [...regions.subarray(offset, offset + rows * columns)];
        const count = (code: number) => codes.filter((found) => found === code).length;
        assertEquals(partition.report.by_tensor[index], {
          layer,
          module: projection,
          matrix,
          elements: rows * columns,
          system1_only: count(1),
          system2_only: count(2),
          shared: count(3),
          inactive: count(0),
        });
      }
      releasePartition(gpu, partition);
    }
    file.close();
  });
}

Deno.test("partition: alpha and beta of 0 and 1 take none and all of the shared elements", async () => {
  const gpu = await testGpu();
  const { file, layout } = openGolden("qwen2");
  const regions = file.read("regions.0.9").bytes;
  for (const [alpha, beta] of [[1, 1], [0, 0], [1, 0], [0, 1]]) {
    const settings = { theta: 0.9, alpha, beta };
    const partition = await cutPartition(gpu, layout, uploadImportance(gpu, file), settings);
    const wanted = regions.map((code) => code === 3 ? alpha | (beta << 1) : code);
    assertEquals(await readBytes(gpu, partition.active), wanted);
    releasePartition(gpu, partition);
  }
  file.close();
});

Deno.test("partition: one backward per example and system, into a gradient of zero", async () => {
  const gpu = await testGpu();
  const { file, layout } = openGolden("qwen3");
  file.close();
  const E = layout.elements;
  const phiValues = normal(E, 1, 0.05);
  const phi = gpu.upload("phi", phiValues), g = gpu.upload("g", normal(E, 2));
  const gradient = (system: System, example: number) =>
    normal(E, 10 * example + (system === "system1" ? 3 : 4), 2);
  const calls: string[] = [];
  const backward = async (system: System, example: number) => {
    calls.push(`${system} ${example}`);
    assert((await gpu.readFloats(g)).every((value) => value === 0));
    gpu.write(g, gradient(system, example));
  };
  const settings = { theta: 0.9, alpha: 1, beta: 1 };
  const examples = { system1: 3, system2: 2 };
  const partition = await partitionAdapter(gpu, { layout, phi, g }, examples, backward, settings);
  const expected = ["system1 0", "system1 1", "system1 2", "system2 0", "system2 1"];
  assertEquals(calls, expected);
  for (const system of ["system1", "system2"] as const) {
    const gradients = Array.from({ length: examples[system] }, (_, i) => gradient(system, i));
    const wanted = importanceReference(gradients, phiValues).importance;
    assertClose(await gpu.readFloats(partition.importance[system]), wanted, 1e-7, system);
  }
});

Deno.test("partition: says why it cannot be", async () => {
  const gpu = await testGpu();
  const { file, layout } = openGolden("qwen3");
  file.close();
  const E = layout.elements;
  const phi = gpu.upload("phi", normal(E, 1)), g = gpu.zeros("g", [E]);
  const settings = { theta: 0.9, alpha: 1, beta: 1 };
  const cases: [number, (system: System) => void, new (m: string) => Error, RegExp][] = [
    [0, () => gpu.write(g, normal(E, 2)), InvalidRequest, /no sample of System 2/],
    [1, () => {}, InvalidRequest, /System 1 is zero everywhere.*B = 0/],
    [1, () => gpu.write(g, normal(E, 2).fill(NaN, 9, 10)), NumericError, /System 1 holds NaN/],
    [
      1,
      (system) => gpu.write(g, normal(E, 2).fill(system === "system2" ? Infinity : 1, 9, 10)),
      NumericError,
      /System 2 holds NaN or Inf/,
    ],
  ];
  for (const [count, backward, type, message] of cases) {
    await gpu.sync();
    const used = gpu.pool.memory.usedBytes;
    const examples = { system1: 1, system2: count };
    await assertRejects(
      partitionAdapter(gpu, { layout, phi, g }, examples, backward, settings),
      (error: Error) => error instanceof type && message.test(error.message),
    );
    assertStrictEquals(gpu.pool.memory.usedBytes, used, "a failed partition keeps buffers");
  }
});
