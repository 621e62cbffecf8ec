// Methods of strings and dictionaries, as Python has them. One that Python has and this file has not is
// refused by name: to a template it would otherwise be undefined, and its branch skipped without a word.

import * as py from "./python_text.ts";
import {
  boolean,
  type Builtin,
  callable,
  integer,
  isBoolean,
  isInteger,
  isList,
  isNone,
  isString,
  list,
  type MapValue,
  nameOf,
  none,
  nothing,
  string,
  type StringValue,
  tuple,
  type Value,
} from "./values.ts";

/** The argument at a position or of a name, or the fallback when it is not given. */
export function argument<T>(
  [args, keywords]: Parameters<Builtin>,
  at: number,
  name: string,
  read: (value: Value, name: string) => T,
  fallback: T,
): T {
  const value = args[at] ?? keywords.get(name);
  return value === undefined ? fallback : read(value, name);
}

export function asString(value: Value, name: string): string {
  if (!isString(value)) throw new Error(`${name} is a ${nameOf(value)}, wanted a str`);
  return value.value;
}

export function asInteger(value: Value, name: string): number {
  if (!isInteger(value) && !isBoolean(value)) {
    throw new Error(`${name} is a ${nameOf(value)}, wanted an int`);
  }
  return Number(value.value);
}

export const orNone =
  <T>(read: (value: Value, name: string) => T) => (value: Value, name: string): T | null =>
    isNone(value) ? null : read(value, name);

const stripMethod = (side: py.Side) => (text: string, ...call: Parameters<Builtin>): Value =>
  string(py.strip(text, argument(call, 0, "chars", orNone(asString), null), side));

const splitMethod =
  (splitIn: typeof py.split) => (text: string, ...call: Parameters<Builtin>): Value => {
    const separator = argument(call, 0, "sep", orNone(asString), null);
    const most = argument(call, 1, "maxsplit", asInteger, -1);
    return list(splitIn(text, separator, most).map(string));
  };

const edgeMethod =
  (holds: (text: string, edge: string) => boolean) => (text: string, args: Value[]): Value => {
    if (args.length !== 1) {
      throw new Error("only one argument of startswith and endswith is done here");
    }
    const edges = isList(args[0]) ? args[0].value : [args[0]];
    return boolean(edges.some((edge) => holds(text, asString(edge, "prefix or suffix"))));
  };

const stringMethods: Record<string, (text: string, ...call: Parameters<Builtin>) => Value> = {
  strip: stripMethod("both"),
  lstrip: stripMethod("left"),
  rstrip: stripMethod("right"),
  split: splitMethod(py.split),
  rsplit: splitMethod(py.splitFromRight),
  splitlines: (text) => list(py.splitLines(text).map(string)),
  startswith: edgeMethod((text, edge) => text.startsWith(edge)),
  endswith: edgeMethod((text, edge) => text.endsWith(edge)),
  upper: (text) => string(text.toUpperCase()),
  lower: (text) => string(text.toLowerCase()),
  title: (text) => string(py.title(text)),
  capitalize: (text) => string(py.capitalize(text)),
  replace: (text, ...call) => {
    const old = argument(call, 0, "old", asString, "");
    const by = argument(call, 1, "new", asString, "");
    return string(py.replace(text, old, by, argument(call, 2, "count", asInteger, -1)));
  },
  join: (text, [items]) => {
    if (!items || !isList(items)) throw new Error("join() wants a list of strings");
    return string(py.join(items.value.map((item) => asString(item, "item")), text));
  },
  find: (text, [part]) => {
    const at = text.indexOf(asString(part ?? nothing(), "sub"));
    return integer(at < 0 ? -1 : py.lengthOf(text.slice(0, at)));
  },
  count: (text, [part]) => {
    const wanted = asString(part ?? nothing(), "sub");
    return integer(wanted === "" ? py.lengthOf(text) + 1 : text.split(wanted).length - 1);
  },
  isdigit: (text) => boolean(/^\p{Nd}+$/u.test(text)),
};

const dictMethods: Record<string, (dict: MapValue["value"], args: Value[]) => Value> = {
  get: (entries, [key, fallback]) =>
    (isString(key) ? entries.get(key.value) : null) ?? fallback ?? none(),
  keys: (entries) => list([...entries.keys()].map(string)),
  values: (entries) => list([...entries.values()]),
  items: (entries) => list([...entries].map(([key, value]) => tuple([string(key), value]))),
};

/** Python's other methods; those that change a value are kept from templates there as well. */
const otherStringMethods = new Set(
  ("casefold center encode expandtabs format format_map index isalnum isalpha isascii isdecimal " +
    "isidentifier islower isnumeric isprintable isspace istitle isupper ljust maketrans partition " +
    "removeprefix removesuffix rfind rindex rjust rpartition swapcase translate zfill").split(" "),
);
const otherDictMethods = new Set("clear copy fromkeys pop popitem setdefault update".split(" "));
const listMethods = new Set(
  "append clear copy count extend index insert pop remove reverse sort".split(" "),
);

function refuse(type: string, name: string): never {
  throw new Error(`the method ${name} of a ${type} is not done here`);
}

/** A method of a string, or undefined when Python has none of that name. */
export function stringMethod({ value }: StringValue, name: string): Value | undefined {
  if (otherStringMethods.has(name)) refuse("str", name);
  if (!Object.hasOwn(stringMethods, name)) return undefined;
  return callable((args, keywords) => stringMethods[name](value, args, keywords));
}

/** A method of a dictionary, or undefined when Python has none of that name. */
export function dictMethod({ value }: MapValue, name: string): Value | undefined {
  if (otherDictMethods.has(name)) refuse("dict", name);
  if (!Object.hasOwn(dictMethods, name)) return undefined;
  return callable((args) => dictMethods[name](value, args));
}

/** That Python's lists have no method of this name. @throws {Error} when they have */
export function refuseListMethod(name: string): void {
  if (listMethods.has(name)) refuse("list", name);
}
