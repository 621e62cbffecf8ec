// Jinja's filters and tests, as Python's Jinja 3.1 has them (and `tojson` as Transformers overrides it).
// Left out, and refused by name when a template comes to one: filters for HTML, numbers and batches.

import { argument, asInteger, asString, orNone } from "./methods.ts";
import { compare, compareText, contains, equals } from "./operators.ts";
import * as py from "./python_text.ts";
import {
  type Builtin,
  float,
  integer,
  isBoolean,
  isDict,
  isFloat,
  isFunction,
  isInteger,
  isList,
  isNone,
  isNumber,
  isString,
  isTrue,
  isUndefined,
  iterate,
  list,
  nameOf,
  nothing,
  string,
  text,
  tuple,
  type Value,
} from "./values.ts";
import { spend } from "./work.ts";

/** A filter: what stands before the bar, then its arguments. */
export type Filter = (operand: Value, ...call: Parameters<Builtin>) => Value;

const asBoolean = (value: Value): boolean => isTrue(value);

/** Lists ignore case unless told otherwise. */
const foldCase = (value: Value): Value =>
  isString(value) ? string(value.value.toLowerCase()) : value;

/** The value at a path such as "function.name" or "0". */
function attribute(item: Value, path: string): Value {
  let value = item;
  for (const part of path.split(".")) {
    if (isDict(value)) value = value.value.get(part) ?? nothing();
    else if (isList(value) && /^\d+$/.test(part)) value = value.value[Number(part)] ?? nothing();
    else return nothing();
  }
  return value;
}

/** What a list is sorted or told apart by. */
function keyOf(path: string | null, caseSensitive: boolean): (item: Value) => Value {
  return (item) => {
    const value = path === null ? item : attribute(item, path);
    return caseSensitive ? value : foldCase(value);
  };
}

const asPath = (value: Value, name: string): string =>
  isInteger(value) ? String(value.value) : asString(value, name);

function toNumber(operand: Value, fallback: Value, whole: boolean): Value {
  const result = (x: number) => whole ? integer(Math.trunc(x)) : float(x);
  if (isUndefined(operand)) throw new Error("an undefined value is no number");
  if (isNumber(operand)) {
    const number = Number(operand.value);
    return whole && !Number.isFinite(number) ? fallback : result(number);
  }
  if (!isString(operand)) return fallback;
  const written = py.strip(operand.value, null, "both").replace(/(?<=\d)_(?=\d)/g, "");
  if (!/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(written)) return fallback;
  return result(Number(written));
}

function selectBy(wanted: boolean): Filter {
  return (operand, [path, test, ...more]) => {
    const key = asPath(path ?? nothing(), "attribute");
    const holds = test === undefined ? isTrue : testNamed(asString(test, "test"));
    return list(
      iterate(operand).filter((item) => holds(attribute(item, key), ...more) === wanted),
    );
  };
}

function indent(operand: Value, ...call: Parameters<Builtin>): Value {
  const width = argument(
    call,
    0,
    "width",
    (value, name) => isString(value) ? value.value : " ".repeat(asInteger(value, name)),
    "    ",
  );
  const first = argument(call, 1, "first", asBoolean, false);
  const blank = argument(call, 2, "blank", asBoolean, false);
  // A newline at the end counts as the beginning of one more, empty line.
  const lines = py.splitLines(asString(operand, "indent's text") + "\n");
  const indented = lines.map((line, i) =>
    (i === 0 ? first : blank || line !== "") ? width + line : line
  );
  return string(py.join(indented, "\n"));
}

/** json.dumps with Transformers' defaults. */
function toJson(operand: Value, ...call: Parameters<Builtin>): Value {
  const ascii = argument(call, 0, "ensure_ascii", asBoolean, false);
  const step = argument(
    call,
    1,
    "indent",
    orNone((value, name) => isString(value) ? value.value : " ".repeat(asInteger(value, name))),
    null,
  );
  const separators = argument(call, 2, "separators", orNone((value) => value), null);
  const sortKeys = argument(call, 3, "sort_keys", asBoolean, false);
  const [between, colon] = separators === null
    ? [step === null ? ", " : ",", ": "]
    : iterate(separators).map((part) => asString(part, "separators"));

  const quoted = (value: string) => {
    const json = JSON.stringify(value);
    if (!ascii) return json;
    const escape = (c: string) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`;
    return json.replace(/[\u007f-\uffff]/g, (c) => c === "\u007f" ? c : escape(c));
  };
  const enclosed = (brackets: string, items: string[], depth: number) => {
    if (items.length === 0) return brackets;
    if (step === null) return brackets[0] + items.join(between) + brackets[1];
    const line = "\n" + step.repeat(depth);
    return brackets[0] + line + step + items.join(between + line + step) + line + brackets[1];
  };
  const write = (value: Value, depth: number): string => {
    const json = written(value, depth);
    spend(json.length);
    return json;
  };
  const written = (value: Value, depth: number): string => {
    if (isString(value)) return quoted(value.value);
    if (isBoolean(value)) return String(value.value);
    if (isInteger(value)) return String(value.value);
    if (isFloat(value)) {
      const shown = py.floatText(Number(value.value));
      return { inf: "Infinity", "-inf": "-Infinity", nan: "NaN" }[shown] ?? shown;
    }
    if (isNone(value)) return "null";
    if (isList(value)) {
      return enclosed("[]", value.value.map((item) => write(item, depth + 1)), depth);
    }
    if (isDict(value)) {
      const entries = [...value.value];
      if (sortKeys) entries.sort(([a], [b]) => compareText(a, b));
      const items = entries.map(([key, item]) => quoted(key) + colon + write(item, depth + 1));
      return enclosed("{}", items, depth);
    }
    throw new Error(`a ${nameOf(value)} is not JSON serializable`);
  };
  return string(write(operand, 0));
}

function sort(operand: Value, ...call: Parameters<Builtin>): Value {
  const reverse = argument(call, 0, "reverse", asBoolean, false);
  const caseSensitive = argument(call, 1, "case_sensitive", asBoolean, false);
  const key = keyOf(argument(call, 2, "attribute", orNone(asPath), null), caseSensitive);
  const order = (a: Value, b: Value) => compare(key(a), key(b));
  return list([...iterate(operand)].sort((a, b) => reverse ? order(b, a) : order(a, b)));
}

function sortDict(operand: Value, ...call: Parameters<Builtin>): Value {
  if (!isDict(operand)) throw new Error(`dictsort of a ${nameOf(operand)}`);
  const caseSensitive = argument(call, 0, "case_sensitive", asBoolean, false);
  const by = argument(call, 1, "by", asString, "key");
  if (by !== "key" && by !== "value") throw new Error(`dictsort by "${by}", wanted key or value`);
  const reverse = argument(call, 2, "reverse", asBoolean, false);
  const pairs = [...operand.value].map(([key, value]) => tuple([string(key), value]));
  const key = keyOf(by === "key" ? "0" : "1", caseSensitive);
  const order = (a: Value, b: Value) => compare(key(a), key(b));
  return list(pairs.sort((a, b) => reverse ? order(b, a) : order(a, b)));
}

function unique(operand: Value, ...call: Parameters<Builtin>): Value {
  const caseSensitive = argument(call, 0, "case_sensitive", asBoolean, false);
  const key = keyOf(argument(call, 1, "attribute", orNone(asPath), null), caseSensitive);
  const kept: Value[] = [];
  for (const item of iterate(operand)) {
    if (!kept.some((other) => equals(key(other), key(item)))) kept.push(item);
  }
  return list(kept);
}

function map(operand: Value, ...call: Parameters<Builtin>): Value {
  const [args, keywords] = call;
  const path = keywords.get("attribute");
  if (path === undefined) {
    const filter = filterNamed(asString(args[0] ?? nothing(), "the filter of map"));
    return list(iterate(operand).map((item) => filter(item, args.slice(1), keywords)));
  }
  const fallback = keywords.get("default") ?? nothing();
  const found = (item: Value) => attribute(item, asPath(path, "attribute"));
  return list(
    iterate(operand).map((item) => isUndefined(found(item)) ? fallback : found(item)),
  );
}

function length(operand: Value): Value {
  if (isString(operand)) return integer(py.lengthOf(operand.value));
  if (isDict(operand)) return integer(operand.value.size);
  return integer(iterate(operand).length);
}

const filters: Record<string, Filter> = {
  length,
  count: length,
  string: (operand) => string(text(operand)),
  safe: (operand) => string(text(operand)),
  trim: (operand, ...call) =>
    string(py.strip(text(operand), argument(call, 0, "chars", orNone(asString), null), "both")),
  upper: (operand) => string(text(operand).toUpperCase()),
  lower: (operand) => string(text(operand).toLowerCase()),
  title: (operand) => string(py.titleWords(text(operand))),
  capitalize: (operand) => string(py.capitalize(text(operand))),
  replace: (operand, ...call) => {
    const old = argument(call, 0, "old", text, "");
    const by = argument(call, 1, "new", text, "");
    const count = argument(call, 2, "count", orNone(asInteger), null);
    return string(py.replace(text(operand), old, by, count ?? -1));
  },
  indent,
  tojson: toJson,
  join: (operand, ...call) => {
    const path = argument(call, 1, "attribute", orNone(asPath), null);
    const key = keyOf(path, true);
    return string(
      py.join(iterate(operand).map((item) => text(key(item))), argument(call, 0, "d", text, "")),
    );
  },
  int: (operand, ...call) => {
    if (call[0].length > 1 || call[1].has("base")) {
      throw new Error("the base of int is not done here");
    }
    return toNumber(operand, argument(call, 0, "default", (value) => value, integer(0)), true);
  },
  float: (operand, ...call) =>
    toNumber(operand, argument(call, 0, "default", (value) => value, float(0)), false),
  abs: (operand) => {
    if (!isNumber(operand)) throw new Error(`abs of a ${nameOf(operand)}`);
    const number = Math.abs(Number(operand.value));
    return isFloat(operand) ? float(number) : integer(number);
  },
  default: (operand, ...call) => {
    const fallback = argument(call, 0, "default_value", (value) => value, string(""));
    const whenFalse = argument(call, 1, "boolean", asBoolean, false);
    return isUndefined(operand) || (whenFalse && !isTrue(operand)) ? fallback : operand;
  },
  first: (operand) => iterate(operand)[0] ?? nothing(),
  last: (operand) => iterate(operand).at(-1) ?? nothing(),
  list: (operand) => list([...iterate(operand)]),
  reverse: (operand) =>
    isString(operand)
      ? string(Array.from(operand.value).reverse().join(""))
      : list([...iterate(operand)].reverse()),
  items: (operand) => {
    if (isUndefined(operand)) return list([]);
    if (!isDict(operand)) throw new Error(`items of a ${nameOf(operand)}`);
    return list([...operand.value].map(([key, value]) => tuple([string(key), value])));
  },
  sort,
  dictsort: sortDict,
  unique,
  map,
  selectattr: selectBy(true),
  rejectattr: selectBy(false),
};
filters.d = filters.default;

/** @throws {Error} naming a filter that is not done here */
export function filterNamed(name: string): Filter {
  if (!Object.hasOwn(filters, name)) throw new Error(`the filter ${name} is not done here`);
  return filters[name];
}

/** A test: what stands before `is`, then its arguments. */
export type Test = (operand: Value, ...args: Value[]) => boolean;

/** islower and isupper: some letter, and every one of this case. */
const hasCase = (value: Value, other: RegExp) =>
  /\p{Cased}/u.test(text(value)) && !other.test(text(value));

function remainder(value: Value): number {
  if (!isNumber(value)) throw new Error(`odd or even of a ${nameOf(value)}`);
  return Math.abs(Number(value.value) % 2);
}

const isIterable = (v: Value) => isString(v) || isList(v) || isDict(v) || isUndefined(v);
const isEqual: Test = (a, b) => equals(a, b);

const tests: Record<string, Test> = {
  defined: (v) => !isUndefined(v),
  undefined: isUndefined,
  none: isNone,
  boolean: isBoolean,
  true: (v) => isBoolean(v) && v.value === true,
  false: (v) => isBoolean(v) && v.value === false,
  string: isString,
  number: isNumber,
  integer: isInteger,
  float: isFloat,
  mapping: isDict,
  iterable: isIterable,
  sequence: isIterable,
  callable: (v) => isFunction(v) || isUndefined(v),
  odd: (v) => remainder(v) === 1,
  even: (v) => remainder(v) === 0,
  lower: (v) => hasCase(v, /[\p{Lu}\p{Lt}]/u),
  upper: (v) => hasCase(v, /[\p{Ll}\p{Lt}]/u),
  eq: isEqual,
  equalto: isEqual,
  "==": isEqual,
  ne: (a, b) => !equals(a, b),
  "!=": (a, b) => !equals(a, b),
  in: (a, b) => contains(b, a),
};

/** @throws {Error} naming a test that is not done here */
export function testNamed(name: string): Test {
  if (!Object.hasOwn(tests, name)) throw new Error(`the test ${name} is not done here`);
  return tests[name];
}
