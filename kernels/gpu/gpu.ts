// The one handle on the device: allocate, dispatch, copy, read. Dispatches gather in one compute
// pass until something needs them submitted; wgpu orders dependent dispatches within a pass.
// Each readback or sync blocks this thread for at least 11 ms, so callers batch them.
// Longer than other files: recording, reading back, trying and timing share the open encoder and pass and
// the device's failure, which nothing outside may hold.

import { GpuError } from "../../lib/errors.ts";
import { BindingCache } from "./bindings.ts";
import { BufferPool } from "./buffers.ts";
import { type AdapterFacts, openDevice } from "./device.ts";
import { type Kernel, PipelineCache } from "./pipelines.ts";
import {
  type DType,
  elementCount,
  type Tensor,
  tensorBytes,
  type Texture,
  type TextureBinding,
} from "./tensor.ts";
import type { Verdict } from "./verdict.ts";

type Data = Float32Array | Uint32Array | Int32Array | Uint16Array | Uint8Array;

/** The word that carries a float among a kernel's u32 parameters. */
export function f32Word(value: number): number {
  floatWord[0] = value;
  return intWord[0];
}
const floatWord = new Float32Array(1);
const intWord = new Uint32Array(floatWord.buffer);

/** One dispatch as `Gpu.run` was asked for it, its data left out. */
export interface Dispatch {
  kernel: Kernel;
  workgroups: readonly [number, number?, number?];
  params?: readonly number[];
}

export class Gpu {
  readonly facts: AdapterFacts;
  readonly device: GPUDevice;
  readonly pool: BufferPool;
  /** Variant chosen per operation and shape class (autotune.ts). */
  readonly choices = new Map<string, string>();
  /** What the self-check found, by operation and variant (kernels/check/). */
  readonly verdicts = new Map<string, Verdict>();
  /** Where both are kept between runs; null to forget them (record.ts). */
  recordPath: string | null = null;
  readonly #pipelines: PipelineCache;
  #encoder: GPUCommandEncoder | null = null;
  #pass: GPUComputePassEncoder | null = null;
  readonly #bindings: BindingCache;
  #failure: GpuError | null = null;
  readonly #failed = Promise.withResolvers<GpuError>();
  #closed = false;
  #planned: Dispatch[] | null = null;
  /** Dispatches since the device was opened. */
  dispatches = 0;

  constructor(device: GPUDevice, facts: AdapterFacts) {
    this.device = device;
    this.facts = facts;
    this.pool = new BufferPool(
      device,
      facts,
      (id) => this.#bindings.forget(id),
      () => this.flush(),
    );
    this.#pipelines = new PipelineCache(device, facts.description);
    this.#bindings = new BindingCache(device, () => this.flush());
    device.addEventListener("uncapturederror", (event) => {
      event.preventDefault();
      const { message } = (event as GPUUncapturedErrorEvent).error;
      this.#fail(new GpuError(`The GPU refused a command: ${message}`));
    });
    device.lost.then((info) => {
      if (this.#closed) return;
      this.#fail(
        new GpuError(
          `The GPU was lost: ${
            info.message || info.reason
          }. Send the request again; a reset driver or ` +
            "too little GPU memory are the usual causes.",
          null,
          "device_lost",
        ),
      );
    });
  }

  /** Resolves when the device is lost or has refused a command; pending once it is closed. */
  get failure(): Promise<GpuError> {
    return this.#failed.promise;
  }

  /** Whether the device is lost or has refused a command: every later sync throws that. */
  get failed(): boolean {
    return this.#failure !== null;
  }

  /**
   * Runs `work`, which records commands and waits for nothing; when it throws, the tensors it acquired
   * and has not released are released. Whoever waits in between needs try and finally instead.
   */
  scope<T>(work: () => T): T {
    return this.pool.scope(work);
  }

  /** Runs `work` outside of any scope, for a tensor that grows and outlives the commands recorded. */
  lasting<T>(work: () => T): T {
    return this.pool.lasting(work);
  }

  /** An uninitialised tensor from the pool. */
  tensor(label: string, shape: readonly number[], dtype: DType = "f32"): Tensor {
    const sizeBytes = tensorBytes(shape, dtype);
    const storage = this.pool.acquire(label, sizeBytes);
    return { label, shape, dtype, storage, offsetBytes: 0, sizeBytes };
  }

  /** A tensor of zeros. */
  zeros(label: string, shape: readonly number[], dtype: DType = "f32"): Tensor {
    const tensor = this.tensor(label, shape, dtype);
    this.clear(tensor);
    return tensor;
  }

  /** A tensor with these values; f16, bf16 and u8 come as their raw words. */
  upload(label: string, data: Data, shape?: readonly number[], dtype?: DType): Tensor {
    const type = dtype ??
      (data instanceof Float32Array ? "f32" : data instanceof Int32Array ? "i32" : "u32");
    const tensor = this.tensor(label, shape ?? [data.length], type);
    this.write(tensor, data);
    return tensor;
  }

  /** Overwrites a tensor from its start. Ordered after everything dispatched before. */
  write(tensor: Tensor, data: Data, offsetBytes = 0): void {
    if (offsetBytes + data.byteLength > tensor.sizeBytes) {
      throw new RangeError(
        `Cannot write ${data.byteLength} bytes at ${offsetBytes} of ${tensor.label}: ` +
          `it has ${tensor.sizeBytes}`,
      );
    }
    this.flush();
    const { buffer } = tensor.storage;
    const whole = data.byteLength & ~3;
    const at = tensor.offsetBytes + offsetBytes;
    const source = data as Data & { buffer: ArrayBuffer };
    // A view of its own, because older runtimes know no offset and size here.
    if (whole > 0) {
      const view = new Uint8Array(source.buffer, source.byteOffset, whole);
      this.device.queue.writeBuffer(buffer, at, view);
    }
    if (whole < data.byteLength) {
      const tail = new Uint8Array(4);
      tail.set(
        new Uint8Array(source.buffer, source.byteOffset + whole, data.byteLength - whole),
      );
      this.device.queue.writeBuffer(buffer, at + whole, tail);
    }
  }

  /**
   * A texture of (height, width) texels, four u32 words each, zero where nothing is written.
   * Kernels read it as `texture_storage_2d<rgba32uint, read>`, the cheapest load lavapipe has.
   */
  texture(label: string, height: number, width: number): Texture {
    const texture = this.device.createTexture({
      label,
      size: [width, height],
      format: "rgba32uint",
      usage: GPUTextureUsage.STORAGE_BINDING | GPUTextureUsage.COPY_DST,
    });
    const sizeBytes = height * width * 16;
    this.pool.addTexture(sizeBytes);
    return { label, id: this.pool.nextId(), texture, view: texture.createView(), sizeBytes };
  }

  /** Overwrites whole rows of texels of a window that begins at texel (0, column). */
  writeTexture(
    { texture }: Texture,
    column: number,
    [height, width]: readonly [number, number],
    bytes: Uint8Array<ArrayBuffer>,
  ): void {
    this.flush();
    this.device.queue.writeTexture(
      { texture, origin: [column, 0] },
      bytes,
      { bytesPerRow: width * 16 },
      [width, height],
    );
  }

  /** Gives tensors' buffers back to the pool. Commands already recorded may still use them. */
  release(...tensors: Tensor[]): void {
    for (const { storage } of tensors) this.pool.release(storage);
  }

  /** Destroys tensors' buffers and textures after the GPU is done with them. */
  async destroy(...tensors: (Tensor | Texture)[]): Promise<void> {
    try {
      await this.sync();
    } finally {
      for (const tensor of tensors) {
        if ("storage" in tensor) this.pool.destroy(tensor.storage);
        else this.pool.destroyTexture(tensor);
      }
    }
  }

  /**
   * Records one dispatch. Bindings take the numbers 0, 1, … of group 0 in order; `params` (u32
   * words, floats through `f32Word`), when given, follow as a uniform.
   * @throws {RangeError} past the adapter's workgroups per dimension.
   */
  run(
    kernel: Kernel,
    bindings: readonly (Tensor | TextureBinding)[],
    workgroups: readonly [number, number?, number?],
    params?: readonly number[],
  ): void {
    const [x, y = 1, z = 1] = workgroups;
    if (Math.max(x, y, z) > this.facts.limits.maxWorkgroupsPerDimension) {
      throw new RangeError(
        `Cannot dispatch ${kernel.label} over (${workgroups}) workgroups: ` +
          `${this.facts.limits.maxWorkgroupsPerDimension} a dimension is the limit`,
      );
    }
    if (this.#planned) {
      this.#planned.push({ kernel, workgroups, params });
      return;
    }
    const pipeline = this.#pipelines.get(kernel);
    const group = this.#bindings.group(pipeline, kernel.label, bindings, params);
    const pass = this.#computePass();
    pass.setPipeline(pipeline.pipeline);
    pass.setBindGroup(0, group);
    pass.dispatchWorkgroups(x, y, z);
    this.dispatches++;
  }

  /** What `record` would dispatch; nothing is. */
  plan(record: () => void): Dispatch[] {
    const planned: Dispatch[] = this.#planned = [];
    try {
      record();
    } finally {
      this.#planned = null;
    }
    return planned;
  }

  /** Whether only trusted kernels run: others are a GpuError at their dispatch. */
  get isGuarded(): boolean {
    return this.#pipelines.isGuarded;
  }
  set isGuarded(value: boolean) {
    this.#pipelines.isGuarded = value;
  }

  /** Lets kernels run under the guard: their results were compared with f64 on this adapter. */
  trust(kernels: Iterable<Kernel>): void {
    this.#pipelines.trust(kernels);
  }

  /** Workgroups for `count` of them in a row, folded into two dimensions where one is too few. */
  grid(count: number): [number, number] {
    const limit = this.facts.limits.maxWorkgroupsPerDimension;
    if (count <= limit) return [count, 1];
    const y = Math.ceil(count / limit);
    return [Math.ceil(count / y), y];
  }

  /** Fills with zeros. */
  clear(tensor: Tensor): void {
    this.#commandEncoder().clearBuffer(
      tensor.storage.buffer,
      tensor.offsetBytes,
      tensor.sizeBytes,
    );
  }

  /** Copies `sizeBytes` (all of `from` when left out) to the same or another tensor. */
  copy(from: Tensor, to: Tensor, options: {
    fromBytes?: number;
    toBytes?: number;
    sizeBytes?: number;
  } = {}): void {
    const { fromBytes = 0, toBytes = 0, sizeBytes = from.sizeBytes } = options;
    this.#commandEncoder().copyBufferToBuffer(
      from.storage.buffer,
      from.offsetBytes + fromBytes,
      to.storage.buffer,
      to.offsetBytes + toBytes,
      sizeBytes,
    );
  }

  /** Hands what is recorded to the GPU without waiting. */
  flush(): void {
    this.#pass?.end();
    this.#pass = null;
    if (this.#encoder) this.device.queue.submit([this.#encoder.finish()]);
    this.#encoder = null;
  }

  /** Waits for the GPU. @throws {GpuError} what went wrong since the last sync. */
  async sync(): Promise<void> {
    this.flush();
    await this.device.queue.onSubmittedWorkDone();
    await this.#check();
  }

  /** Waits for an empty command, which a lost device cannot run. @throws {GpuError} as `sync` */
  async probe(): Promise<void> {
    this.#commandEncoder();
    await this.sync();
  }

  /**
   * Runs `work`, which ends with a readback or a sync, and throws what the GPU refused in it without
   * holding that against the device, as any other refusal is. Nothing else may be recorded meanwhile.
   * @throws {GpuError}
   */
  async attempt<T>(work: () => Promise<T>): Promise<T> {
    this.flush();
    await this.#check();
    const scopes = ["validation", "internal", "out-of-memory"] as const;
    for (const scope of scopes) this.device.pushErrorScope(scope);
    const [outcome] = await Promise.allSettled([work()]);
    // What was recorded before a throw still belongs to the attempt.
    this.flush();
    const errors = await Promise.all(scopes.map(() => this.device.popErrorScope()));
    await this.#check();
    const refused = errors.find((error) => error !== null);
    const thrown = outcome.status === "rejected" ? outcome.reason : null;
    // A kernel that does not compile names its line; what is refused then follows from it.
    const namesLine = thrown instanceof GpuError && thrown.code === "kernel_error";
    if (refused && !namesLine) throw new GpuError(`The GPU refused: ${refused.message}`);
    if (outcome.status === "rejected") throw thrown;
    return outcome.value;
  }

  /** Reads tensors back in one copy; each comes as its own array of words. */
  async readWords(tensors: readonly Tensor[]): Promise<ArrayBuffer[]> {
    const size = tensors.reduce((sum, tensor) => sum + tensor.sizeBytes, 0);
    const staging = this.device.createBuffer({
      label: "readback",
      size: Math.max(4, size),
      usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
    });
    let offset = 0;
    for (const tensor of tensors) {
      this.#commandEncoder().copyBufferToBuffer(
        tensor.storage.buffer,
        tensor.offsetBytes,
        staging,
        offset,
        tensor.sizeBytes,
      );
      offset += tensor.sizeBytes;
    }
    this.flush();
    try {
      await staging.mapAsync(GPUMapMode.READ).catch(async (error: Error) => {
        await this.#check();
        throw new GpuError(`Cannot read ${tensors[0]?.label}: ${error.message}`);
      });
      const mapped = staging.getMappedRange();
      offset = 0;
      const result = tensors.map(({ sizeBytes }) => {
        const part = mapped.slice(offset, offset + sizeBytes);
        offset += sizeBytes;
        return part;
      });
      staging.unmap();
      await this.#check();
      return result;
    } finally {
      staging.destroy();
    }
  }

  /** Reads one f32 tensor back. */
  async readFloats(tensor: Tensor): Promise<Float32Array<ArrayBuffer>> {
    const [words] = await this.readWords([tensor]);
    return new Float32Array(words, 0, elementCount(tensor.shape));
  }

  /** Reads one u32 tensor back. */
  async readUints(tensor: Tensor): Promise<Uint32Array<ArrayBuffer>> {
    const [words] = await this.readWords([tensor]);
    return new Uint32Array(words, 0, elementCount(tensor.shape));
  }

  /** Seconds the GPU spends on what `record` dispatches; no copies in it. */
  async measure(record: () => void): Promise<number> {
    await this.sync();
    if (!this.facts.features.timestamps) {
      const begin = performance.now();
      record();
      await this.sync();
      return (performance.now() - begin) / 1000;
    }
    const querySet = this.device.createQuerySet({ type: "timestamp", count: 2 });
    const resolved = this.device.createBuffer({
      label: "timestamps",
      size: 16,
      usage: GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC,
    });
    try {
      const encoder = this.#encoder = this.device.createCommandEncoder({ label: "measure" });
      this.#pass = encoder.beginComputePass({
        label: "measure",
        timestampWrites: { querySet, beginningOfPassWriteIndex: 0, endOfPassWriteIndex: 1 },
      });
      record();
      this.#pass?.end();
      this.#pass = null;
      encoder.resolveQuerySet(querySet, 0, 2, resolved, 0);
      const [words] = await this.readWords([{
        label: "timestamps",
        shape: [4],
        dtype: "u32",
        storage: { id: 0, buffer: resolved, sizeBytes: 16 },
        offsetBytes: 0,
        sizeBytes: 16,
      }]);
      const [begin, end] = new BigUint64Array(words);
      return Number(end - begin) / 1e9;
    } finally {
      querySet.destroy();
      resolved.destroy();
    }
  }

  /** Closes the device; everything on it is gone. */
  close(): void {
    this.#closed = true;
    this.device.destroy();
  }

  #fail(error: GpuError): void {
    this.#failure ??= error;
    this.#failed.resolve(this.#failure);
  }

  async #check(): Promise<void> {
    await this.#pipelines.check();
    if (this.#failure) throw this.#failure;
  }

  #commandEncoder(): GPUCommandEncoder {
    this.#pass?.end();
    this.#pass = null;
    return this.#encoder ??= this.device.createCommandEncoder({ label: "lorapar" });
  }

  #computePass(): GPUComputePassEncoder {
    if (this.#pass) return this.#pass;
    this.#encoder ??= this.device.createCommandEncoder({ label: "lorapar" });
    return this.#pass = this.#encoder.beginComputePass({ label: "lorapar" });
  }
}

/** Opens the best adapter. @throws {GpuError} when there is none. */
export async function openGpu(): Promise<Gpu> {
  const { device, facts } = await openDevice();
  return new Gpu(device, facts);
}
