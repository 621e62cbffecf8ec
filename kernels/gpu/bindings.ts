// Bind groups and uniforms, kept by what they hold: shapes repeat, so most dispatches find both made.
// Uniforms lie in slots of one buffer, one for each distinct list of words.

import { collectGarbage } from "./collect.ts";
import type { Pipeline } from "./pipelines.ts";
import type { Tensor, TextureBinding } from "./tensor.ts";

const uniformSlotBytes = 256;
const uniformSlots = 4096;
/** Bind groups made, kept and dropped ones, until the dropped ones are collected. */
const maxBindGroups = 8192;

export class BindingCache {
  #groups = new Map<string, GPUBindGroup>();
  #groupsOf = new Map<number, Set<string>>();
  #groupsMade = 0;
  #uniforms: GPUBuffer;
  #uniformSlotOf = new Map<string, number>();

  /** `flush` submits what is recorded. */
  constructor(private device: GPUDevice, private flush: () => void) {
    this.#uniforms = device.createBuffer({
      label: "uniforms",
      size: uniformSlots * uniformSlotBytes,
      usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
    });
  }

  /** The group of these bindings, then the uniform with `params`; made where it is not known. */
  group(
    pipeline: Pipeline,
    label: string,
    bindings: readonly (Tensor | TextureBinding)[],
    params?: readonly number[],
  ): GPUBindGroup {
    if (this.#groupsMade >= maxBindGroups) this.#reset();
    let key = `${pipeline.id}`;
    for (const binding of bindings) {
      key += "storage" in binding
        ? `|${binding.storage.id}:${binding.offsetBytes}:${binding.sizeBytes}`
        : `|t${binding.id}`;
    }
    const slot = params ? this.#uniformSlot(params) : -1;
    key += `|u${slot}`;
    const known = this.#groups.get(key);
    if (known) return known;
    this.#groupsMade++;
    const group = this.#make(pipeline, label, bindings, slot, params?.length ?? 0);
    this.#groups.set(key, group);
    for (const binding of bindings) {
      const id = "storage" in binding ? binding.storage.id : binding.id;
      const keys = this.#groupsOf.get(id) ?? new Set();
      keys.add(key);
      this.#groupsOf.set(id, keys);
    }
    return group;
  }

  /** Drops the groups that hold a buffer or texture which is about to be destroyed. */
  forget(id: number): void {
    for (const key of this.#groupsOf.get(id) ?? []) this.#groups.delete(key);
    this.#groupsOf.delete(id);
  }

  #uniformSlot(params: readonly number[]): number {
    const key = params.join(",");
    const known = this.#uniformSlotOf.get(key);
    if (known !== undefined) return known;
    if (this.#uniformSlotOf.size >= uniformSlots) this.#reset();
    const slot = this.#uniformSlotOf.size;
    const words = new Uint32Array(Math.ceil(params.length / 4) * 4);
    words.set(params);
    this.device.queue.writeBuffer(this.#uniforms, slot * uniformSlotBytes, words);
    this.#uniformSlotOf.set(key, slot);
    return slot;
  }

  /** Recorded dispatches still read the old uniforms, so they are submitted first. */
  #reset(): void {
    this.flush();
    this.#uniformSlotOf.clear();
    this.#groups.clear();
    this.#groupsOf.clear();
    this.#groupsMade = 0;
    collectGarbage();
  }

  #make(
    { layout }: Pipeline,
    label: string,
    bindings: readonly (Tensor | TextureBinding)[],
    slot: number,
    paramCount: number,
  ): GPUBindGroup {
    const entries: GPUBindGroupEntry[] = bindings.map((binding, index) => ({
      binding: index,
      resource: "storage" in binding
        ? {
          buffer: binding.storage.buffer,
          offset: binding.offsetBytes,
          size: Math.max(4, binding.sizeBytes),
        }
        : binding.view,
    }));
    if (slot >= 0) {
      entries.push({
        binding: bindings.length,
        resource: {
          buffer: this.#uniforms,
          offset: slot * uniformSlotBytes,
          size: Math.ceil(paramCount / 4) * 16,
        },
      });
    }
    return this.device.createBindGroup({ label, layout, entries });
  }
}
