import { assertEquals } from "@std/assert";
import { interruptible } from "../../../lib/model/interruptible.ts";
import { assertThrows } from "../../asserts.ts";

Deno.test("a loop and a pattern without end are left at the limit, and answers come through", () => {
  const timedOut = (error: { code?: string }) => error.code === "ERR_SCRIPT_EXECUTION_TIMEOUT";
  assertThrows(() =>
    interruptible(() => {
      for (;;);
    }, 50), timedOut);
  assertThrows(() => interruptible(() => /(a+)+$/.test("a".repeat(60) + "b"), 50), timedOut);
  assertEquals(interruptible(() => [1, interruptible(() => 2)]), [1, 2]);
  assertThrows(() =>
    interruptible(() => {
      throw new RangeError("its own");
    }), RangeError);
});
