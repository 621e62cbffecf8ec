import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { Cancelled, GpuError, InvalidRequest, NumericError } from "../../../lib/errors.ts";
import { errorObject } from "../../../lib/jobs/error_object.ts";

Deno.test("errors written for users are shown, with their place and code", () => {
  assertEquals(errorObject(new InvalidRequest("Cannot do a.", "a", "b")), {
    message: "Cannot do a.",
    type: "invalid_request_error",
    param: "a",
    code: "b",
  });
  assertStrictEquals(errorObject(new GpuError("Cannot load.")).type, "server_error");
  assertStrictEquals(errorObject(new NumericError("NaN.")).code, "not_finite");
  assertStrictEquals(errorObject(new Cancelled("Cancelled.")).code, "cancelled");
});

Deno.test("of any other error nothing is shown", () => {
  const errors = [
    new TypeError("secret"),
    new Deno.errors.NotFound("No such file: open '/root/secret'"),
    Object.assign(new Error("secret"), { code: "secret", param: "secret" }),
    "secret",
    null,
    undefined,
  ];
  for (const error of errors) {
    const shown = errorObject(error);
    assert(!JSON.stringify(shown).includes("secret"), JSON.stringify(shown));
    assertStrictEquals(shown.code, "internal_error");
  }
});

Deno.test("a full disk is told as one, whoever met it", () => {
  const full = Object.assign(new Error("write '/root/x'"), { code: "ENOSPC" });
  assertStrictEquals(errorObject(full).code, "storage_full");
});

Deno.test("an error's words are no longer than a user reads", () => {
  const long = "\u{1f600}".repeat(100_000);
  const { message, param } = errorObject(new InvalidRequest(`Cannot accept x${long}.`, long));
  for (const text of [message, param!]) assert(text.length < 1010 && text.isWellFormed(), text);
});
