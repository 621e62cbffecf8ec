// Compiles kernels once and keeps them. A kernel is WGSL text, an entry point and its override
// constants; compile errors come back with the WGSL line at the next sync.

import { GpuError } from "../../lib/errors.ts";

export interface Kernel {
  /** Shown in errors and traces, e.g. "rms_norm.forward". */
  label: string;
  /** WGSL; shared pieces are joined by plain concatenation before this. */
  code: string;
  entryPoint: string;
  constants?: Record<string, number>;
}

export interface Pipeline {
  readonly id: number;
  readonly pipeline: GPUComputePipeline;
  readonly layout: GPUBindGroupLayout;
}

export class PipelineCache {
  #modules = new Map<string, GPUShaderModule>();
  #byKernel = new WeakMap<Kernel, Pipeline>();
  #byText = new Map<string, Pipeline>();
  #pending: Promise<void>[] = [];

  constructor(private device: GPUDevice) {}

  get(kernel: Kernel): Pipeline {
    const known = this.#byKernel.get(kernel);
    if (known) return known;
    const constants = Object.entries(kernel.constants ?? {}).sort();
    const key = `${kernel.entryPoint}|${constants.join(";")}|${kernel.code}`;
    const pipeline = this.#byText.get(key) ?? this.#compile(kernel, key);
    this.#byKernel.set(kernel, pipeline);
    return pipeline;
  }

  /** Throws what went wrong in compilations since the last call. @throws {GpuError} */
  async check(): Promise<void> {
    while (this.#pending.length > 0) await Promise.all(this.#pending.splice(0));
  }

  #compile(kernel: Kernel, key: string): Pipeline {
    const { device } = this;
    device.pushErrorScope("internal");
    device.pushErrorScope("validation");
    let module = this.#modules.get(kernel.code);
    if (!module) {
      module = device.createShaderModule({ label: kernel.label, code: kernel.code });
      this.#modules.set(kernel.code, module);
    }
    const pipeline = device.createComputePipeline({
      label: kernel.label,
      layout: "auto",
      compute: { module, entryPoint: kernel.entryPoint, constants: kernel.constants },
    });
    const layout = pipeline.getBindGroupLayout(0);
    const scopes = [device.popErrorScope(), device.popErrorScope()];
    const reported = report(kernel, module, scopes);
    // `check` throws it at the next sync; until then it is nobody's.
    reported.catch(() => {});
    this.#pending.push(reported);
    const made = { id: this.#byText.size + 1, pipeline, layout };
    this.#byText.set(key, made);
    return made;
  }
}

async function report(
  kernel: Kernel,
  module: GPUShaderModule,
  scopes: Promise<GPUError | null>[],
): Promise<void> {
  const errors = (await Promise.all(scopes)).filter((error) => error !== null);
  if (errors.length === 0) return;
  const { messages } = await module.getCompilationInfo();
  const lines = kernel.code.split("\n");
  const details = messages.filter((message) => message.type === "error").map((message) =>
    `line ${message.lineNum}:${message.linePos}: ${message.message}\n  ${
      lines[message.lineNum - 1]?.trim() ?? ""
    }`
  );
  throw new GpuError(
    `Cannot compile ${kernel.label}: ${details.join("\n") || errors[0].message}`,
    null,
    "kernel_error",
  );
}
