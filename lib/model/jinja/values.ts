// The values that @huggingface/jinja computes with, and Python's str() and repr() of them. The library exports
// its interpreter but not the classes of its values, so those are taken from values that it made.

import { Environment, Interpreter, parse, tokenize } from "@huggingface/jinja";
import { floatText, stringRepr } from "./python_text.ts";
import { spend } from "./work.ts";

export type Value = ReturnType<Interpreter["evaluate"]>;
export type StringValue = Extract<Value, { value: string }>;
export type NumberValue = Extract<Value, { value: number | boolean }>;
export type ListValue = Extract<Value, { value: Value[] }>;
export type MapValue = Extract<Value, { value: Map<string, Value> }>;
export type FunctionValue = Extract<Value, { value: (...args: never[]) => Value }>;

export const isString = (v: Value): v is StringValue => v.type === "StringValue";
export const isInteger = (v: Value): v is NumberValue => v.type === "IntegerValue";
export const isFloat = (v: Value): v is NumberValue => v.type === "FloatValue";
export const isBoolean = (v: Value): v is NumberValue => v.type === "BooleanValue";
/** Python counts booleans as numbers. */
export const isNumber = (v: Value): v is NumberValue => isInteger(v) || isFloat(v) || isBoolean(v);
export const isTuple = (v: Value): v is ListValue => v.type === "TupleValue";
export const isList = (v: Value): v is ListValue => v.type === "ArrayValue" || isTuple(v);
export const isDict = (v: Value): v is MapValue =>
  v.type === "ObjectValue" || v.type === "KeywordArgumentsValue";
export const isNamespace = (v: Value): v is MapValue => v.type === "NamespaceValue";
export const isFunction = (v: Value): v is FunctionValue => v.type === "FunctionValue";
export const isNone = (v: Value): boolean => v.type === "NullValue";
export const isUndefined = (v: Value): boolean => v.type === "UndefinedValue";

/** Arguments of a call after those by position. */
export const isKeywords = (v: Value): v is MapValue => v.type === "KeywordArgumentsValue";

const samples = new Environment();
const classes = new Map<string, new (value: unknown) => Value>();
for (const sample of [0, 0.5, "", true, [], {}, null, undefined, () => null]) {
  const { type, constructor } = samples.set(`sample ${classes.size}`, sample);
  classes.set(type, constructor as new (value: unknown) => Value);
}
const tupleLiteral = parse(tokenize("{{ (1, 2) }}")).body[0];
const sampleTuple = new Interpreter(samples).evaluate(tupleLiteral, samples);
classes.set("TupleValue", sampleTuple.constructor as new (value: unknown) => Value);
const make = (type: string, value?: unknown): Value => new (classes.get(type)!)(value);

export const string = (value: string): Value => make("StringValue", value);
export const boolean = (value: boolean): Value => make("BooleanValue", value);
export const float = (value: number): Value => make("FloatValue", value);
export const list = (value: Value[]): Value => make("ArrayValue", value);
export const tuple = (value: Value[]): Value => make("TupleValue", value);
export const dict = (value: Map<string, Value>): Value => make("ObjectValue", value);
export const none = (): Value => make("NullValue", null);
export const nothing = (): Value => make("UndefinedValue");
/** An integer. @throws {Error} beyond 2^53, where JavaScript's numbers lose digits */
export function integer(value: number): Value {
  if (!Number.isSafeInteger(value)) throw new Error("integers beyond 2^53 are not computed here");
  // -0 prints as 0.
  return make("IntegerValue", value + 0);
}

/** A function of a template: arguments by position, then by name. */
export type Builtin = (args: Value[], keywords: ReadonlyMap<string, Value>) => Value;

/** A builtin as a value that a template can call. */
export function callable(builtin: Builtin): Value {
  return make("FunctionValue", (args: Value[]) => {
    const last = args.at(-1);
    return last && isKeywords(last)
      ? builtin(args.slice(0, -1), last.value)
      : builtin(args, new Map());
  });
}

/** Python's str(). */
export function text(value: Value): string {
  if (isString(value)) return value.value;
  if (isUndefined(value)) return "";
  return repr(value);
}

/** Python's repr(). */
export function repr(value: Value): string {
  const written = reprOf(value);
  spend(written.length);
  return written;
}

function reprOf(value: Value): string {
  if (isString(value)) return stringRepr(value.value);
  if (isFloat(value)) return floatText(Number(value.value));
  if (isInteger(value)) return String(value.value);
  if (isBoolean(value)) return value.value ? "True" : "False";
  if (isNone(value)) return "None";
  if (isUndefined(value)) return "Undefined";
  if (isList(value)) {
    const items = value.value.map((item) => repr(item));
    if (!isTuple(value)) return `[${items.join(", ")}]`;
    return `(${items.join(", ")}${items.length === 1 ? "," : ""})`;
  }
  if (isDict(value)) {
    const items = [...value.value].map(([key, item]) => `${stringRepr(key)}: ${repr(item)}`);
    return `{${items.join(", ")}}`;
  }
  throw new Error(`a ${nameOf(value)} has no text here`);
}

/** What a `for` goes through. @throws {Error} when it is no sequence */
export function iterate(value: Value): Value[] {
  if (isList(value)) return value.value;
  if (isDict(value)) return [...value.value.keys()].map(string);
  if (isString(value)) return Array.from(value.value, string);
  if (isUndefined(value)) return [];
  throw new Error(`'${nameOf(value)}' object is not iterable`);
}

/** Characters of a string, entries of a list or dictionary. */
export function sizeOf(value: Value): number {
  if (isString(value) || isList(value)) return value.value.length;
  return isDict(value) ? value.value.size : 1;
}

/** Python's truth. */
export const isTrue = (value: Value): boolean => value.__bool__().value;

const names: Record<string, string> = {
  StringValue: "str",
  IntegerValue: "int",
  FloatValue: "float",
  BooleanValue: "bool",
  ArrayValue: "list",
  TupleValue: "tuple",
  ObjectValue: "dict",
  NamespaceValue: "namespace",
  FunctionValue: "function",
  NullValue: "None",
  UndefinedValue: "undefined",
};

/** Python's name of a type. */
export const nameOf = (value: Value): string => names[value.type] ?? value.type;
