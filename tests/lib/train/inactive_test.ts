import { assert, assertStrictEquals } from "@std/assert";
import { NumericError } from "../../../lib/errors.ts";
import { requireInactiveUnchanged } from "../../../lib/train/inactive.ts";
import { assertThrows } from "../../asserts.ts";

const active = Uint8Array.of(0, 1, 2, 3, 0, 2);
const start = Float32Array.of(0, 1, 2, 3, 4, 5);

Deno.test("requireInactiveUnchanged: active elements may move, each in a phase that trains it", () => {
  requireInactiveUnchanged(start, start.slice(), active, 3);
  requireInactiveUnchanged(start, Float32Array.of(0, 9, 9, 9, 4, 9), active, 3);
  requireInactiveUnchanged(start, Float32Array.of(0, 9, 2, 9, 4, 5), active, 1);
});

Deno.test("requireInactiveUnchanged: one bit of one inactive element fails the training", () => {
  const moved: [Float32Array<ArrayBuffer>, number, number][] = [
    [Float32Array.of(-0, 1, 2, 3, 4, 5), 3, 0],
    [Float32Array.of(0, 1, 2, 3, 4.0000005, 5), 3, 4],
    [Float32Array.of(0, 1, 7, 3, 4, 7), 1, 2],
    [Float32Array.of(0, 1, 2, 3, NaN, 5), 3, 4],
  ];
  for (const [end, trained, first] of moved) {
    assertThrows(() => requireInactiveUnchanged(start, end, active, trained), (error) => {
      assert(error instanceof NumericError);
      assertStrictEquals(error.code, "inactive_elements_changed");
      return new RegExp(`the first of them element ${first} `).test(error.message);
    });
  }
});
