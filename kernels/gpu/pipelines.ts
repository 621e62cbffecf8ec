// Compiles kernels once and keeps them. A kernel is WGSL text, an entry point and its override
// constants; compile errors come back with the WGSL line at the next sync. A guarded cache hands out
// only what the self-check (kernels/check/) found right on this adapter.

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
  /** Whether a guarded cache hands it out. */
  isTrusted: boolean;
}

/** What makes two kernels the same pipeline: all but the label. */
export function kernelText({ code, entryPoint, constants = {} }: Kernel): string {
  return `${entryPoint}|${Object.entries(constants).sort().join(";")}|${code}`;
}

export class PipelineCache {
  #modules = new Map<string, GPUShaderModule>();
  #byKernel = new WeakMap<Kernel, Pipeline>();
  #byText = new Map<string, Pipeline>();
  #pending: Promise<void>[] = [];
  #nextId = 1;
  #trusted = new Set<string>();
  isGuarded = false;

  /** `adapter` is its name in errors. */
  constructor(private device: GPUDevice, private adapter: string) {}

  /** @throws {GpuError} for a kernel that is not trusted, when guarded. */
  get(kernel: Kernel): Pipeline {
    const known = this.#byKernel.get(kernel);
    if (known && (known.isTrusted || !this.isGuarded)) return known;
    const text = kernelText(kernel);
    if (this.isGuarded && !this.#trusted.has(text)) {
      throw new GpuError(
        `Cannot use ${kernel.label} on ${this.adapter}: it was not seen to compute rightly there. ` +
          "Run `lorapar doctor`.",
        null,
        "kernel_error",
      );
    }
    const pipeline = this.#byText.get(text) ?? this.#compile(kernel, text);
    this.#byKernel.set(kernel, pipeline);
    return pipeline;
  }

  /** Adds kernels to those that a guarded cache hands out. */
  trust(kernels: Iterable<Kernel>): void {
    for (const kernel of kernels) {
      const text = kernelText(kernel);
      this.#trusted.add(text);
      const made = this.#byText.get(text);
      if (made) made.isTrusted = true;
    }
  }

  /** Throws what went wrong in compilations since the last call. @throws {GpuError} */
  async check(): Promise<void> {
    while (this.#pending.length > 0) await Promise.all(this.#pending.splice(0));
  }

  #compile(kernel: Kernel, text: string): Pipeline {
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
    // `check` throws it at the next sync; until then it is nobody's. Another try compiles anew.
    reported.catch(() => {
      this.#modules.delete(kernel.code);
      this.#byText.delete(text);
      this.#byKernel = new WeakMap();
    });
    this.#pending.push(reported);
    const isTrusted = this.#trusted.has(text);
    const made: Pipeline = { id: this.#nextId++, pipeline, layout, isTrusted };
    this.#byText.set(text, made);
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
