// What the GPU is, what it offers, whether it computes rightly, and which kernels were chosen on it.

import { prefersTexture } from "../../../kernels/weight.ts";
import { swiglu } from "../../../kernels/swiglu.ts";
import type { GpuContext } from "../context.ts";
import type { DoctorTask } from "../messages.ts";

export async function doctor(
  { gpu }: GpuContext,
  _task: DoctorTask,
): Promise<Record<string, unknown>> {
  const { facts } = gpu;
  const problems: string[] = [];
  if (facts.software) {
    problems.push(
      `${facts.description} is the CPU posing as a GPU. It works, but slowly: install the driver of ` +
        "your GPU if there is one.",
    );
  }
  if (/llvmpipe/i.test(facts.description) && /LLVM 1[0-4]\./.test(facts.description)) {
    problems.push("Mesa is older than 23: a newer lavapipe is about 1.4 times as fast.");
  }
  if (!facts.features.timestamps) {
    problems.push("No timestamps: kernels are chosen by wall-clock, which is less exact.");
  }
  const self = await selfTest(gpu);
  if (self > 1e-6) problems.push(`The adapter computes wrongly: relative error ${self}.`);
  return {
    // The driver's name and version stand in here, as far as WebGPU tells them.
    adapter: facts.description,
    vendor: facts.vendor,
    architecture: facts.architecture,
    software: facts.software,
    features: facts.features,
    limits: facts.limits,
    memory: gpu.pool.memory,
    variants: {
      matmul: prefersTexture(gpu) ? "broadcast, weights as textures" : "measured for each model",
      reductions: facts.software ? "a lane a row" : "trees in workgroup memory",
      measured: Object.fromEntries(gpu.choices),
    },
    self_test_error: self,
    problems,
  };
}

/** The largest relative error of a small kernel against f64. */
async function selfTest(gpu: GpuContext["gpu"]): Promise<number> {
  const values = Float32Array.from({ length: 256 }, (_, i) => (i - 128) / 16);
  const gate = gpu.upload("doctor.gate", values, [256]);
  const up = gpu.upload("doctor.up", values.map((x) => 1 + x * x), [256]);
  const y = gpu.tensor("doctor.y", [256]);
  swiglu(gpu, { gate, up, y });
  const found = await gpu.readFloats(y);
  gpu.release(gate, up, y);
  return found.reduce((worst, value, i) => {
    const x = values[i];
    const wanted = x / (1 + Math.exp(-x)) * Math.fround(1 + x * x);
    return Math.max(worst, Math.abs(value - wanted) / (Math.abs(wanted) + 1e-6));
  }, 0);
}
