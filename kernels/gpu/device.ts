// Finds the adapter and opens the device with all the limits and features it offers.
// Uncaptured errors and device loss are kept and thrown at the next sync: nothing fails silently.

import { GpuError } from "../../lib/errors.ts";

export interface AdapterFacts {
  vendor: string;
  architecture: string;
  description: string;
  /** A CPU posing as a GPU (lavapipe, SwiftShader): it wants other kernels than a GPU. */
  software: boolean;
  features: { f16: boolean; subgroups: boolean; timestamps: boolean };
  /** Smallest number of invocations a subgroup may have; 0 without subgroups. */
  subgroupSize: number;
  limits: {
    maxBufferBytes: number;
    maxBindingBytes: number;
    maxWorkgroupInvocations: number;
    maxWorkgroupStorageBytes: number;
    maxWorkgroupsPerDimension: number;
    maxTextureSize: number;
    storageAlignment: number;
  };
}

export interface OpenDevice {
  device: GPUDevice;
  facts: AdapterFacts;
}

const wantedLimits = [
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupSizeX",
  "maxComputeWorkgroupSizeY",
  "maxComputeWorkgroupStorageSize",
  "maxStorageBuffersPerShaderStage",
  "maxTextureDimension2D",
] as const;

const help = "Install a Vulkan driver (on Debian: apt-get install mesa-vulkan-drivers), " +
  "then run `lorapar doctor`.";

/** Opens the adapter with the highest performance. @throws {GpuError} when there is none. */
export async function openDevice(): Promise<OpenDevice> {
  const adapter = await navigator.gpu?.requestAdapter({ powerPreference: "high-performance" });
  if (!adapter) throw new GpuError(`Cannot find a GPU adapter: WebGPU offers none. ${help}`);

  const requiredLimits: Record<string, number> = {};
  for (const name of wantedLimits) requiredLimits[name] = adapter.limits[name];
  const optional = ["shader-f16", "timestamp-query"] as GPUFeatureName[];
  const features = optional.filter((name) => adapter.features.has(name));

  const { device, subgroups } = await requestWithSubgroups(adapter, features, requiredLimits);
  const { vendor, architecture, description, device: name } = adapter.info;
  const text = `${description} ${name} ${vendor}`;
  return {
    device,
    facts: {
      vendor,
      architecture,
      description: description || name || "unnamed adapter",
      software: /llvmpipe|lavapipe|swiftshader|softpipe/i.test(text),
      features: {
        f16: device.features.has("shader-f16"),
        subgroups,
        timestamps: device.features.has("timestamp-query"),
      },
      subgroupSize: subgroups ? adapter.info.subgroupMinSize ?? 0 : 0,
      limits: {
        maxBufferBytes: device.limits.maxBufferSize,
        maxBindingBytes: device.limits.maxStorageBufferBindingSize,
        maxWorkgroupInvocations: device.limits.maxComputeInvocationsPerWorkgroup,
        maxWorkgroupStorageBytes: device.limits.maxComputeWorkgroupStorageSize,
        maxWorkgroupsPerDimension: device.limits.maxComputeWorkgroupsPerDimension,
        maxTextureSize: device.limits.maxTextureDimension2D,
        storageAlignment: device.limits.minStorageBufferOffsetAlignment,
      },
    },
  };
}

/** Deno hides "subgroups" from the adapter's features but grants it; others grant it and have it not. */
async function requestWithSubgroups(
  adapter: GPUAdapter,
  features: GPUFeatureName[],
  requiredLimits: Record<string, number>,
): Promise<{ device: GPUDevice; subgroups: boolean }> {
  try {
    const device = await adapter.requestDevice({
      label: "lorapar",
      requiredFeatures: [...features, "subgroups" as GPUFeatureName],
      requiredLimits,
    });
    return { device, subgroups: await hasSubgroups(device) };
  } catch {
    try {
      const device = await adapter.requestDevice({
        label: "lorapar",
        requiredFeatures: features,
        requiredLimits,
      });
      return { device, subgroups: false };
    } catch (error) {
      throw new GpuError(
        `Cannot open ${adapter.info.description}: ${(error as Error).message}. ${help}`,
      );
    }
  }
}

/** Whether a kernel with subgroup operations compiles. What does not is kept from the device's errors. */
export async function hasSubgroups(device: GPUDevice): Promise<boolean> {
  device.pushErrorScope("internal");
  device.pushErrorScope("validation");
  const module = device.createShaderModule({
    label: "subgroup probe",
    code: `@group(0) @binding(0) var<storage, read_write> y: array<u32>;
@compute @workgroup_size(4)
fn main(@builtin(subgroup_invocation_id) lane: u32) { y[lane] = subgroupBroadcast(lane, 0u); }`,
  });
  device.createComputePipeline({
    label: "subgroup probe",
    layout: "auto",
    compute: { module, entryPoint: "main" },
  });
  const errors = await Promise.all([device.popErrorScope(), device.popErrorScope()]);
  return errors.every((error) => error === null);
}
