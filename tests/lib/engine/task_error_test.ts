import { assert, assertEquals } from "@std/assert";
import { GpuError, StorageError } from "../../../lib/errors.ts";
import { describeError, reviveError } from "../../../lib/engine/task_error.ts";

Deno.test("an error crosses threads as its own class, a full disk as one of ours", () => {
  const faults: string[] = [];
  const across = (error: unknown) =>
    reviveError(structuredClone(describeError(error, (message) => faults.push(message))));
  const lost = across(new GpuError("It was lost.", "model", "device_lost"));
  assert(lost instanceof GpuError);
  assertEquals([lost.message, lost.param, lost.code], ["It was lost.", "model", "device_lost"]);
  const full = across(
    Object.assign(new Error("No space left on device (os error 28): writefile '/data/x'"), {
      code: "ENOSPC",
    }),
  );
  assert(full instanceof StorageError && full.code === "storage_full");
  assert(/the disk is full/.test(full.message) && !/\/data/.test(full.message));
  assertEquals(faults, []);
  const other = across(new TypeError("x is undefined"));
  assert(other.message.startsWith("Internal error: TypeError: x is undefined."));
  assert(faults[0]?.includes("task_error_test.ts"));
});
