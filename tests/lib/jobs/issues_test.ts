import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { invalidRequest, pathText } from "../../../lib/jobs/issues.ts";
import { classifySettings, partitionSettings } from "../../../lib/par/settings.ts";
import { trainSettings } from "../../../lib/train/settings.ts";

const base = { model: "m", file: "f" };

/** [param, code] of the refusal of a training body. */
function refusal(more: Record<string, unknown>): [string | null, string] {
  const body = { ...base, ...more };
  const error = invalidRequest(trainSettings.safeParse(body).error!.issues, body);
  return [error.param, error.code];
}

Deno.test("the offending field is named by its path", () => {
  assertStrictEquals(pathText(["phases", 0, "learning_rate"]), "phases[0].learning_rate");
  assertEquals(refusal({ phases: [{ kind: "sft", learning_rate: "a" }] }), [
    "phases[0].learning_rate",
    "invalid_type",
  ]);
  assertEquals(refusal({ phases: [{ kind: "sft", lr: 1 }] }), ["phases[0].lr", "unknown_field"]);
  assertEquals(refusal({ phases: [{ kind: "dpo" }] }), ["phases[0].kind", "invalid_value"]);
  assertEquals(refusal({ phases: [] }), ["phases", "invalid_value"]);
  assertEquals(refusal({ model: undefined }), ["model", "missing_field"]);
  assertEquals(refusal({ Theta: 1 }), ["Theta", "unknown_field"]);
});

Deno.test("in a union the branch that was meant is named", () => {
  assertEquals(refusal({ partition: { theta: 1.1 } }), ["partition.theta", "invalid_value"]);
  assertEquals(refusal({ partition: { lora: { r: "8" } } }), ["partition.lora.r", "invalid_type"]);
  assertEquals(refusal({ partition: { thta: 0.5 } }), ["partition.thta", "unknown_field"]);
  const body = { ...base, partition: 3 };
  const error = invalidRequest(trainSettings.safeParse(body).error!.issues, body);
  assertStrictEquals(error.message, 'Cannot accept 3 as "partition": expected string or object.');
});

Deno.test("messages say what was found and what is wanted", () => {
  const message = (body: unknown) =>
    invalidRequest(partitionSettings.safeParse(body).error!.issues, body).message;
  assertStrictEquals(
    message({ model: "m", theta: 1.1 }),
    'Cannot accept 1.1 as "theta": expected number to be <=1.',
  );
  assertStrictEquals(
    message({ theta: 1 }),
    'Cannot do without "model": it is missing, expected string.',
  );
  assertStrictEquals(message([]), "Cannot accept [] as the body: expected object, received array.");
});

Deno.test("a request that names a key's variable is told where keys are now", () => {
  const body = {
    samples: [{}],
    target_model: "m",
    teachers: [{ name: "t", model: "m", api_key_env: "LORAPAR_API_KEY" }],
  };
  const error = invalidRequest(classifySettings.safeParse(body).error!.issues, body);
  assertEquals([error.param, error.code], ["teachers[0].api_key_env", "unknown_field"]);
  assert(/teacher_keys in the server's config file/.test(error.message), error.message);
});
