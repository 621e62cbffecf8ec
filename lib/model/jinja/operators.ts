// Python's operators on the values of a template: equality, order, membership and arithmetic.

import { checkLength } from "./python_text.ts";
import { entryCost, spend } from "./work.ts";
import {
  float,
  integer,
  isBoolean,
  isDict,
  isFloat,
  isInteger,
  isList,
  isNone,
  isNumber,
  isString,
  isTuple,
  isUndefined,
  list,
  nameOf,
  string,
  tuple,
  type Value,
} from "./values.ts";

/** Python's ==. */
export function equals(a: Value, b: Value): boolean {
  spend(entryCost);
  if (a === b) return true;
  if (isNumber(a) && isNumber(b)) return Number(a.value) === Number(b.value);
  if (isList(a) && isList(b)) {
    return isTuple(a) === isTuple(b) && a.value.length === b.value.length &&
      a.value.every((item, i) => equals(item, b.value[i]));
  }
  if (isDict(a) && isDict(b)) {
    return a.value.size === b.value.size && [...a.value].every(([key, item]) => {
      const other = b.value.get(key);
      return other !== undefined && equals(item, other);
    });
  }
  if (isNone(a) || isUndefined(a)) return a.type === b.type;
  return isString(a) && isString(b) && a.value === b.value;
}

/** Python's order: negative when a < b. @throws {Error} where Python has none */
export function compare(a: Value, b: Value): number {
  spend(entryCost);
  if (isNumber(a) && isNumber(b)) return Number(a.value) - Number(b.value);
  if (isString(a) && isString(b)) return compareText(a.value, b.value);
  if (isList(a) && isList(b) && isTuple(a) === isTuple(b)) {
    const at = a.value.findIndex((item, i) => i >= b.value.length || !equals(item, b.value[i]));
    if (at < 0 || at >= b.value.length) return a.value.length - b.value.length;
    return compare(a.value[at], b.value[at]);
  }
  throw new Error(`'<' not supported between ${nameOf(a)} and ${nameOf(b)}`);
}

/** By code points, where JavaScript compares halves of surrogate pairs. */
export function compareText(a: string, b: string): number {
  const [left, right] = [Array.from(a), Array.from(b)];
  const at = left.findIndex((character, i) => character !== right[i]);
  if (at < 0 || at >= right.length) return left.length - right.length;
  return left[at].codePointAt(0)! - right[at].codePointAt(0)!;
}

/** Python's `a in b`. @throws {Error} when b holds nothing */
export function contains(b: Value, a: Value): boolean {
  if (isUndefined(b)) return false;
  if (isList(b)) return b.value.some((item) => equals(item, a));
  if (isDict(b)) {
    if (isList(a) && !isTuple(a) || isDict(a)) throw new Error(`unhashable type: '${nameOf(a)}'`);
    return isString(a) && b.value.has(a.value);
  }
  if (isString(b) && isString(a)) return b.value.includes(a.value);
  throw new Error(`'in' not supported between ${nameOf(a)} and ${nameOf(b)}`);
}

/** Arithmetic, `+` of lists and `*` of strings. @throws {Error} as Python, and for what is not done here */
export function calculate(operator: string, left: Value, right: Value): Value {
  if (operator === "+" && isList(left) && isList(right) && isTuple(left) === isTuple(right)) {
    spend(entryCost * (left.value.length + right.value.length));
    const joined = [...left.value, ...right.value];
    return isTuple(left) ? tuple(joined) : list(joined);
  }
  if (operator === "*" && isString(left)) return repeated(left.value, right);
  if (operator === "*" && isString(right)) return repeated(right.value, left);
  if (!isNumber(left) || !isNumber(right)) {
    throw new Error(`'${operator}' of a ${nameOf(left)} and a ${nameOf(right)} is not done here`);
  }
  const [a, b] = [Number(left.value), Number(right.value)];
  const number = isFloat(left) || isFloat(right) ? float : integer;
  if (b === 0 && ["/", "//", "%"].includes(operator)) throw new Error("division by zero");
  switch (operator) {
    case "+":
      return number(a + b);
    case "-":
      return number(a - b);
    case "*":
      return number(a * b);
    case "/":
      return float(a / b);
    case "//":
      return number(Math.floor(a / b));
    case "%":
      return number(modulo(a, b));
    case "**":
      if (!Number.isFinite(a ** b)) throw new Error("a power that is no finite number");
      return b < 0 ? float(a ** b) : number(a ** b);
    default:
      throw new Error(`the operator ${operator} is not done here`);
  }
}

/** Python's `+` of two strings. @throws {Error} past the longest text */
export function concatenated(left: string, right: string): Value {
  checkLength(left.length + right.length);
  return string(left + right);
}

/** The remainder has the sign of the divisor, where JavaScript's has the dividend's. */
function modulo(a: number, b: number): number {
  const remainder = a % b;
  if (remainder === 0) return b < 0 ? -0 : 0;
  return (remainder < 0) === (b < 0) ? remainder : remainder + b;
}

function repeated(part: string, times: Value): Value {
  if (!isInteger(times) && !isBoolean(times)) {
    throw new Error(`cannot multiply a str by a ${nameOf(times)}`);
  }
  const count = Math.max(0, Number(times.value));
  checkLength(count * part.length);
  return string(part.repeat(count));
}
