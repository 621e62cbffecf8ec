// Zod's issues as one InvalidRequest: which field, what was found there, what is wanted.
// The field is named by its path, e.g. `phases[0].learning_rate`.

import type { z } from "zod";
import { InvalidRequest } from "../errors.ts";

type Issue = z.core.$ZodIssue;

/** `["phases", 0, "learning_rate"]` as `phases[0].learning_rate`. */
export function pathText(path: readonly PropertyKey[]): string {
  return path.reduce<string>(
    (text, key) =>
      typeof key === "number" ? `${text}[${key}]` : text ? `${text}.${String(key)}` : String(key),
    "",
  );
}

/** Fields of former versions, and what takes their place. */
const formerFields = new Map([
  [
    "api_key_env",
    "a teacher's key is no longer named by the request. It belongs to teacher_keys in the server's " +
    'config file, e.g. {"teacher_keys": {"api.example.com:443": "EXAMPLE_API_KEY"}}',
  ],
]);

/** Of a union's branches, the issue that got furthest into the value: the branch that was meant. */
function innermost(issue: Issue): Issue {
  if (issue.code !== "invalid_union" || issue.errors.length === 0) return issue;
  const firsts = issue.errors.filter((branch) => branch.length > 0)
    .map((branch) => innermost(branch[0]!));
  const deepest = firsts.reduce<Issue | null>(
    (best, next) => next.path.length > (best?.path.length ?? 0) ? next : best,
    null,
  );
  if (!deepest) {
    const wanted = firsts.map((first) => first.code === "invalid_type" ? first.expected : null);
    return wanted.every((type) => type !== null)
      ? { ...issue, message: `expected ${wanted.join(" or ")}` }
      : issue;
  }
  return { ...deepest, path: [...issue.path, ...deepest.path] };
}

function show(value: unknown): string {
  const text = JSON.stringify(value) ?? "nothing";
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

function at(value: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (inner, key) => (inner as Record<PropertyKey, unknown> | null | undefined)?.[key],
    value,
  );
}

/** The first of `issues` about `value` (the body as it came), in the house's words. */
export function invalidRequest(
  issues: readonly Issue[],
  value: unknown,
  noun: "field" | "query parameter" = "field",
): InvalidRequest {
  const issue = innermost(issues[0]!);
  if (issue.code === "unrecognized_keys") {
    const key = issue.keys[0]!;
    const param = pathText([...issue.path, key]);
    return new InvalidRequest(
      `Cannot accept the unknown ${noun} "${param}": ` +
        `${formerFields.get(key) ?? "check its name, or leave it out"}.`,
      param,
      "unknown_field",
    );
  }
  const param = pathText(issue.path);
  const found = at(value, issue.path);
  const wanted = issue.message.replace(/^(Invalid input|Too big|Too small|Invalid option): /, "");
  if (found === undefined && param) {
    return new InvalidRequest(
      `Cannot do without "${param}": it is missing, ${
        wanted.replace(/, received undefined$/, "")
      }.`,
      param,
      "missing_field",
    );
  }
  return new InvalidRequest(
    `Cannot accept ${show(found)} as ${param ? `"${param}"` : "the body"}: ${wanted}.`,
    param || null,
    issue.code === "invalid_type" ? "invalid_type" : "invalid_value",
  );
}
