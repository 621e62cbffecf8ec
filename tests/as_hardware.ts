// Runs the variants meant for hardware GPUs on whatever adapter the tests have.
import { testGpu } from "./gpu.ts";

/** What `work` answers while dispatchers take the adapter for a hardware GPU. */
export async function asHardware<T>(work: () => Promise<T>): Promise<T> {
  const { facts } = await testGpu();
  const { software } = facts;
  facts.software = false;
  try {
    return await work();
  } finally {
    facts.software = software;
  }
}
