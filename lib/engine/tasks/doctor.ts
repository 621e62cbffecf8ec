// What the GPU is, what it offers, which kernels compute rightly on it, and which are used: for a person
// to read, so in words and units.

import { format } from "@std/fmt/bytes";
import {
  generationChecks,
  modelChecks,
  trainingChecks,
  weightChecks,
} from "../../../kernels/check/ops.ts";
import { matmulCheck } from "../../../kernels/check/matmul.ts";
import { checkOps, checkVariants } from "../../../kernels/check/self_check.ts";
import type { OpCheck } from "../../../kernels/check/trial.ts";
import type { AdapterFacts } from "../../../kernels/gpu/device.ts";
import type { Gpu } from "../../../kernels/gpu/gpu.ts";
import { variantKey, type Verdict } from "../../../kernels/gpu/verdict.ts";
import { bufferedVariants, measuredVariants } from "../../../kernels/matmul_variants.ts";
import { prefersTexture, weightTypes } from "../../../kernels/weight.ts";
import type { GpuContext } from "../context.ts";
import type { DoctorTask } from "../messages.ts";

/** All that any model may need. */
const allChecks: readonly OpCheck[] = [
  ...modelChecks,
  ...weightTypes.flatMap(weightChecks),
  ...[1, 2, 3, 4].flatMap(generationChecks),
  ...trainingChecks,
];

export async function doctor(
  { gpu, turns }: GpuContext,
  _task: DoctorTask,
): Promise<Record<string, unknown>> {
  const begin = performance.now();
  await turns.take(async () => {
    await checkOps(gpu, allChecks);
    for (const dtype of weightTypes.filter((dtype) => !prefersTexture(gpu, dtype))) {
      await checkVariants(gpu, matmulCheck(dtype), bufferedVariants(gpu));
    }
  });
  const seconds = (performance.now() - begin) / 1000;
  const ops = [...new Map(allChecks.map((check) => [check.op, check])).values()];
  const { facts } = gpu;
  const bytes = (count: number) => format(count, { binary: true });
  const { usedBytes, idleBytes, peakBytes } = gpu.pool.memory;
  return {
    // The driver's name and version stand in here, as far as WebGPU tells them.
    adapter: facts.description,
    kind: facts.software ? "the CPU, posing as a GPU" : "a GPU",
    vendor: vendorName(facts.vendor),
    architecture: facts.architecture,
    features: {
      subgroups: facts.features.subgroups ? `of ${facts.subgroupSize} lanes or more` : "no",
      timestamps: facts.features.timestamps ? "yes" : "no",
      "half-precision arithmetic": facts.features.f16 ? "yes" : "no",
    },
    limits: {
      buffer: bytes(facts.limits.maxBufferBytes),
      binding: bytes(facts.limits.maxBindingBytes),
      texture: `${facts.limits.maxTextureSize} texels a side`,
      workgroup: `${facts.limits.maxWorkgroupInvocations} invocations, ${
        bytes(facts.limits.maxWorkgroupStorageBytes)
      } of shared memory`,
      dispatch: `${facts.limits.maxWorkgroupsPerDimension} workgroups a dimension`,
    },
    memory: {
      "in use": bytes(usedBytes),
      "kept for reuse": bytes(idleBytes),
      "most so far": bytes(peakBytes),
    },
    kernels: {
      "compared with f64": Object.fromEntries(ops.map((op) => [op.op, found(gpu, op)])),
      "time taken": timeTaken([...gpu.verdicts.values()], seconds),
      "fastest products": measuredVariants(gpu),
    },
    problems: [...adapterProblems(facts), ...ops.flatMap((op) => opProblems(gpu, op))],
  };
}

const vendors: Record<number, string> = {
  0x1002: "AMD",
  0x1010: "Imagination",
  0x106b: "Apple",
  0x10de: "NVIDIA",
  0x13b5: "Arm",
  0x1ae0: "Google",
  0x5143: "Qualcomm",
  0x8086: "Intel",
  0x10005: "Mesa",
};

/** WebGPU in Deno names a vendor by its PCI or Khronos number in decimal. */
function vendorName(vendor: string): string {
  const id = Number(vendor);
  if (vendor === "" || !Number.isInteger(id)) return vendor;
  return vendors[id] ?? `number 0x${id.toString(16)}`;
}

/** What was found of each way to compute an op. */
function found(gpu: Gpu, { op, variants }: OpCheck): string {
  return variants(gpu).map((variant) => {
    const name = variant === "only" ? "" : `${variant} `;
    return name + verdictInWords(gpu.verdicts.get(variantKey(op, variant)));
  }).join("; ");
}

function verdictInWords(verdict: Verdict | undefined): string {
  if (!verdict) return "not needed";
  if (!verdict.right) return "WRONG";
  return verdict.error === 0 ? "right, exactly" : `right, NMSE ${verdict.error.toExponential(0)}`;
}

function timeTaken(verdicts: Verdict[], seconds: number): string {
  const all = verdicts.reduce((sum, { milliseconds }) => sum + milliseconds, 0) / 1000;
  return `${all.toFixed(1)} s for ${verdicts.length} comparisons, compilation included; ` +
    `${seconds.toFixed(1)} s of it now`;
}

function adapterProblems({ software, description, features }: AdapterFacts): string[] {
  const problems: string[] = [];
  if (software) {
    problems.push(
      `${description} is the CPU posing as a GPU. It works, but slowly: install the driver of ` +
        "your GPU if there is one.",
    );
  }
  if (/llvmpipe/i.test(description) && /LLVM 1[0-4]\./.test(description)) {
    problems.push("Mesa is older than 23: a newer lavapipe is about 1.4 times as fast.");
  }
  if (!features.timestamps) {
    problems.push("No timestamps: kernels are chosen by wall-clock, which is less exact.");
  }
  return problems;
}

/** Says of each wrong variant what is wrong with it and what follows. */
function opProblems(gpu: Gpu, { op, variants }: OpCheck): string[] {
  const all = variants(gpu).map((variant) => ({
    variant,
    verdict: gpu.verdicts.get(variantKey(op, variant)),
  }));
  const used = all.find(({ verdict }) => verdict?.right);
  return all.flatMap(({ variant, verdict }) => {
    if (!verdict || verdict.right) return [];
    const what = variant === "only" ? op : `${op} by "${variant}"`;
    const follows = used
      ? `It is left out, and "${used.variant}" is used instead: results are right, perhaps slower.`
      : "There is no other way here, so what needs it is refused. Update the driver, or use another " +
        "adapter.";
    return [`${what} computes wrongly on this adapter: ${verdict.reason}. ${follows}`];
  });
}
