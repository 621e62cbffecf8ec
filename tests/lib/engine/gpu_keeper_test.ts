// A device that is lost is replaced before the next task asks for it.

import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { openGpu } from "../../../kernels/gpu/gpu.ts";
import { GpuKeeper, type Kept } from "../../../lib/engine/gpu_keeper.ts";
import { GpuError } from "../../../lib/errors.ts";
import { assertRejects } from "../../asserts.ts";

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Devices that are numbered and fail when they are told to. */
function fakeDevices(idleMs = 10_000) {
  const made: Device[] = [];
  const told: (string | null)[] = [];
  let refusal: string | null = null;
  class Device implements Kept {
    closed = false;
    failed = false;
    probes = 0;
    #failure = Promise.withResolvers<GpuError>();
    gpu = this;
    failure = this.#failure.promise;
    /** Lost, but nobody has noticed. */
    silent: string | null = null;
    fail(message: string) {
      this.failed = true;
      this.#failure.resolve(new GpuError(message));
    }
    async probe() {
      this.probes++;
      if (this.silent) this.fail(this.silent);
      await this.failed;
    }
    close() {
      this.closed = true;
    }
  }
  const open = () => {
    if (refusal) return Promise.reject(new GpuError(refusal));
    const device = new Device();
    made.push(device);
    return Promise.resolve(device);
  };
  const keeper = new GpuKeeper(open, (problem) => told.push(problem), { idleMs, retryMs: 20 });
  return { keeper, made, told, refuse: (message: string | null) => refusal = message };
}

Deno.test("a device that fails while idle is replaced at once", async () => {
  const { keeper, made, told } = fakeDevices();
  assertStrictEquals(await keeper.opened(), null);
  const first = await keeper.get();
  assertStrictEquals(await keeper.get(), first);
  first.fail("lost");
  await pause(0);
  assert(first.closed);
  assertEquals([made.length, told], [2, [null, "lost", null]]);
  assertStrictEquals(await keeper.get(), made[1]);
});

Deno.test("tasks that ask at the moment of a failure share the new device", async () => {
  const { keeper, made } = fakeDevices();
  (await keeper.get()).fail("lost");
  const got = await Promise.all([keeper.get(), keeper.get(), keeper.get()]);
  assertEquals([new Set(got).size, made.length], [1, 2]);
  assertStrictEquals(got[0], made[1]);
});

Deno.test("a device that was idle for long is asked for a sign of life", async () => {
  const { keeper, made } = fakeDevices(0);
  const first = await keeper.get();
  await pause(2);
  assertStrictEquals(await keeper.get(), first);
  assertStrictEquals(first.probes, 1);
  first.silent = "lost in sleep";
  await pause(2);
  assertStrictEquals(await keeper.get(), made[1]);
  assert(first.closed);
});

Deno.test("where there is no device it is tried again", async () => {
  const { keeper, told, refuse } = fakeDevices();
  refuse("there is none");
  await assertRejects(keeper.get(), GpuError);
  await assertRejects(keeper.get(), GpuError);
  refuse(null);
  await pause(60);
  assertEquals(told, ["there is none", "there is none", null]);
  assert(await keeper.opened());
});

Deno.test("a real device that is destroyed is noticed and replaced", async () => {
  const open = async () => {
    const gpu = await openGpu();
    return { gpu, close: () => gpu.close() };
  };
  const told: (string | null)[] = [];
  const keeper = new GpuKeeper(open, (problem) => told.push(problem));
  const { gpu: first } = await keeper.get();
  const atWork = first.upload("values", Float32Array.of(1, 2, 3));
  first.device.destroy();
  await pause(0);
  // A task at work on it fails at its next sync, the next one has another device.
  await assertRejects(
    first.readFloats(atWork),
    (error: GpuError) => error.code === "device_lost",
  );
  const { gpu: second } = await keeper.get();
  assert(second !== first);
  const values = await second.readFloats(second.upload("values", Float32Array.of(1, 2, 3)));
  assertEquals([...values], [1, 2, 3]);
  assert(/The GPU was lost/.test(told[1]!));
  assertEquals([told[0], told[2], told.length], [null, null, 3]);
  // Closing it ourselves is no loss.
  second.close();
  await pause(20);
  assertStrictEquals(second.failed, false);
});
