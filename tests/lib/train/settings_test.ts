import { assert, assertEquals } from "@std/assert";
import { z } from "zod";
import { classifySettings, partitionSettings } from "../../../lib/par/settings.ts";
import {
  evaluateSettings,
  grpoSettings,
  sftSettings,
  trainSettings,
} from "../../../lib/train/settings.ts";

interface Schema {
  type?: string;
  enum?: unknown[];
  const?: unknown;
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  exclusiveMaximum?: number;
  maxLength?: number;
  maxItems?: number;
  pattern?: string;
  properties?: Record<string, Schema>;
  items?: Schema;
  anyOf?: Schema[];
  oneOf?: Schema[];
}

/** What a schema leaves unbounded, by path. */
function unbounded(schema: Schema, path: string): string[] {
  if (schema.enum || schema.const !== undefined) return [];
  const inner = [
    ...Object.entries(schema.properties ?? {}).flatMap(([name, one]) =>
      unbounded(one, `${path}.${name}`)
    ),
    ...(schema.items ? unbounded(schema.items, `${path}[]`) : []),
    ...[...schema.anyOf ?? [], ...schema.oneOf ?? []].flatMap((one) => unbounded(one, path)),
  ];
  const low = schema.minimum ?? schema.exclusiveMinimum ?? -Infinity;
  const high = schema.maximum ?? schema.exclusiveMaximum ?? Infinity;
  switch (schema.type) {
    case "number":
    case "integer":
      return low >= -1000 && high < 2 ** 32 ? inner : [`${path} (${low} to ${high})`, ...inner];
    case "string":
      return schema.maxLength || /\{\d*,\d+\}\$$/.test(schema.pattern ?? "")
        ? inner
        : [path, ...inner];
    case "array":
      return schema.maxItems ? inner : [path, ...inner];
    default:
      return inner;
  }
}

for (
  const [name, schema] of Object.entries({
    classify: classifySettings,
    partition: partitionSettings,
    train: trainSettings,
    evaluate: evaluateSettings,
  })
) {
  Deno.test(`settings: every number, text and list of ${name} has bounds`, () => {
    assertEquals(unbounded(z.toJSONSchema(schema, { io: "input" }) as Schema, name), []);
  });
}

Deno.test("settings: numbers that are none, or too large to compute with, are refused", () => {
  const phases: [z.ZodType, Record<string, unknown>][] = [
    [sftSettings, { kind: "sft" }],
    [grpoSettings, { kind: "grpo" }],
  ];
  for (const [schema, given] of phases) {
    assert(schema.safeParse(given).success);
    for (
      const [name, value] of Object.entries({
        learning_rate: Infinity,
        weight_decay: NaN,
        adam_beta1: 1,
        adam_beta2: 1 - 1e-17,
        adam_epsilon: 1e-46,
        max_grad_norm: Infinity,
        num_train_epochs: -1,
        max_steps: 1e9,
        gradient_accumulation_steps: 1e6,
      })
    ) {
      assert(!schema.safeParse({ ...given, [name]: value }).success, `${name} ${value}`);
    }
  }
  for (
    const [name, value] of Object.entries({
      temperature: 1e-40,
      top_k: 2 ** 40,
      beta: 1e300,
      epsilon: 2,
      epsilon_high: Infinity,
      rewards: [{ type: "integer", weight: 1e308 }],
    })
  ) {
    assert(!grpoSettings.safeParse({ kind: "grpo", [name]: value }).success, `${name} ${value}`);
  }
});
