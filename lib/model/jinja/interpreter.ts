// Renders a template as Python's Jinja does. @huggingface/jinja walks most of its tree; here is what it
// computes otherwise: what stands behind a dot, operators, filters, tests, loops (whose variables end with each
// round) and macros (which see the names where they are defined).
// A template is data from outside: its steps and the size of its values are bounded.

import { Environment, Interpreter } from "@huggingface/jinja";
import { filterNamed, testNamed } from "./filters.ts";
import { asInteger, dictMethod, refuseListMethod, stringMethod } from "./methods.ts";
import { strftime } from "./python_text.ts";
import { calculate, compare, concatenated, contains, equals } from "./operators.ts";
import {
  type Assignment,
  type Binary,
  type Branch,
  type Call,
  type Filtered,
  hidden,
  hiddenName,
  type Identifier,
  like,
  type Loop,
  type Member,
  type Node,
  type Program,
  sampleCall,
  type Tested,
} from "./syntax.ts";
import {
  boolean,
  callable,
  dict,
  integer,
  isDict,
  isFunction,
  isInteger,
  isList,
  isNamespace,
  isString,
  isTrue,
  isUndefined,
  iterate,
  list,
  none,
  nothing,
  sizeOf,
  string,
  text,
  tuple,
  type Value,
} from "./values.ts";
import { spend, startWork, stepCost } from "./work.ts";

/** What a round of a loop costs besides its body. */
const loopCost = 5 * stepCost;
/** As Jinja's sandbox has it. */
const maxRange = 100_000;

/** Leaves the innermost loop, or its round, with what the round has written so far. */
class LoopControl extends Error {
  written = "";
  constructor(readonly kind: "break" | "continue") {
    super(`${kind} outside of a loop`);
  }
}

/** The text of a template with these variables. @throws {Error} where Python's Jinja throws, and for what is not done here */
export function render(program: Program, variables: Record<string, unknown>): string {
  startWork();
  const environment = new Environment();
  for (const [name, value] of Object.entries({ ...globals, ...variables })) {
    environment.set(name, value);
  }
  for (const [name, value] of Object.entries(functions)) environment.setVariable(name, value);
  try {
    return text(new PythonInterpreter(environment).run(program));
  } catch (error) {
    throw error instanceof RangeError ? new Error("its macros or values nest too deep") : error;
  }
}

const globals = { true: true, false: false, none: null, True: true, False: false, None: null };

const functions: Record<string, Value> = {
  raise_exception: callable(([message]) => {
    throw new Error(message ? text(message) : "raise_exception()");
  }),
  strftime_now: callable(([format]) => string(strftime(new Date(), text(format ?? nothing())))),
  range: callable((args) => {
    const [first = 0, second, step = 1] = args.map((value) => asInteger(value, "range's argument"));
    const [start, stop] = second === undefined ? [0, first] : [first, second];
    if (step === 0) throw new Error("range() arg 3 must not be zero");
    const length = Math.max(0, Math.ceil((stop - start) / step));
    if (length > maxRange) throw new Error(`a range of ${length} numbers, at most ${maxRange}`);
    return list(Array.from({ length }, (_, i) => integer(start + i * step)));
  }),
};

class PythonInterpreter extends Interpreter {
  override evaluate(node: Node | undefined, scope: Environment): Value {
    spend(stepCost);
    return this.compute(node, scope);
  }

  private compute(node: Node | undefined, scope: Environment): Value {
    switch (node?.type) {
      case "CallExpression":
        return read(super.evaluate(node, scope));
      case "MemberExpression":
        return this.member(node as Member, scope);
      case "BinaryExpression":
        return this.binary(node as Binary, scope);
      case "FilterExpression":
        return this.filter(node as Filtered, scope);
      case "FilterStatement": {
        const { body, filter } = node as Filtered & { body: Node[] };
        return this.filtered(this.block(body, new Environment(scope)), filter, scope);
      }
      case "TestExpression": {
        const { operand, negate, test } = node as Tested;
        return boolean(testNamed(test.value)(this.evaluate(operand, scope)) !== negate);
      }
      case "Program":
        return this.block((node as Program).body, scope);
      case "If": {
        const { test, body, alternate } = node as Branch;
        return this.block(isTrue(this.evaluate(test, scope)) ? body : alternate, scope);
      }
      case "For":
        return this.loop(node as Loop, scope);
      case "Set":
        return this.set(node as Assignment, scope);
      case "Break":
        throw new LoopControl("break");
      case "Continue":
        throw new LoopControl("continue");
      case "Macro":
        return this.macro(node as Node & { name: Identifier }, scope);
      default:
        return super.evaluate(node, scope);
    }
  }

  /** The text of a body. */
  private block(body: Node[], scope: Environment): Value {
    let written = "";
    for (const node of body) {
      try {
        const value = this.evaluate(node, scope);
        if (isString(value)) written += value.value;
      } catch (error) {
        if (error instanceof LoopControl) error.written = written + error.written;
        throw error;
      }
    }
    return string(written);
  }

  /** `{% set x %}…{% endset %}` has a scope of its own inside. */
  private set(node: Assignment, scope: Environment): Value {
    if (node.value) return super.evaluate(node, scope);
    scope.setVariable(hiddenName, this.block(node.body, new Environment(scope)));
    return super.evaluate(like(node, { value: hidden, body: [] }), scope);
  }

  private member(node: Member, scope: Environment): Value {
    const object = this.evaluate(node.object, scope);
    if (node.computed && node.property.type === "SliceExpression") {
      const inner = new Environment(scope);
      inner.setVariable(hiddenName, read(object));
      return super.evaluate(like(node, { object: hidden }), inner);
    }
    const isName = !node.computed && node.property.type === "Identifier";
    const key = isName
      ? string((node.property as Identifier).value)
      : this.evaluate(node.property, scope);
    if (isUndefined(object)) {
      throw new Error(`an undefined value has no ${text(key)}`);
    }
    if (isInteger(key)) return this.itemAt(object, Number(key.value));
    if (!isString(key)) return nothing();
    const name = key.value;
    const item = isDict(object) || isNamespace(object) ? object.value.get(name) : undefined;
    if (isDict(object)) {
      // A dot means the method first, brackets the entry.
      return (isName ? dictMethod(object, name) ?? item : item ?? dictMethod(object, name)) ??
        nothing();
    }
    if (isList(object)) refuseListMethod(name);
    if (!isString(object)) return item ?? nothing();
    read(object);
    return stringMethod(object, name) ?? nothing();
  }

  /** The entry at an index, counted from the end when negative. */
  private itemAt(object: Value, index: number): Value {
    if (isList(object)) return object.value.at(index) ?? nothing();
    return (isString(object) ? iterate(read(object)).at(index) : null) ?? nothing();
  }

  private binary(node: Binary, scope: Environment): Value {
    const operator = node.operator.value;
    if (operator === "and" || operator === "or") return super.evaluate(node, scope);
    const left = this.evaluate(node.left, scope);
    const right = this.evaluate(node.right, scope);
    // Joining strings copies nothing, so a text that grows piece by piece costs no more than its pieces.
    if (operator === "~") return concatenated(text(left), text(right));
    if (operator === "+" && isString(left) && isString(right)) {
      return concatenated(left.value, right.value);
    }
    read(left);
    read(right);
    switch (operator) {
      case "==":
        return boolean(equals(left, right));
      case "!=":
        return boolean(!equals(left, right));
      case "in":
        return boolean(contains(right, left));
      case "not in":
        return boolean(!contains(right, left));
      case "<":
        return boolean(compare(left, right) < 0);
      case ">":
        return boolean(compare(left, right) > 0);
      case "<=":
        return boolean(compare(left, right) <= 0);
      case ">=":
        return boolean(compare(left, right) >= 0);
      default:
        return calculate(operator, left, right);
    }
  }

  private filter({ operand, filter }: Filtered, scope: Environment): Value {
    return this.filtered(this.evaluate(operand, scope), filter, scope);
  }

  /** Lets the library evaluate the arguments, by calling a function of a name that no template has. */
  private filtered(operand: Value, node: Identifier | Call, scope: Environment): Value {
    const isCall = node.type === "CallExpression";
    const { callee, args } = isCall ? node as Call : { callee: node, args: [] };
    const filter = filterNamed((callee as Identifier).value);
    const inner = new Environment(scope);
    inner.setVariable(hiddenName, callable((...call) => filter(operand, ...call)));
    read(operand);
    return super.evaluate(like(sampleCall, { callee: hidden, args }), inner);
  }

  private loop(node: Loop, scope: Environment): Value {
    const chosen = node.iterable.type === "SelectExpression";
    const all = iterate(
      read(this.evaluate(chosen ? node.iterable.lhs : node.iterable, scope)),
    );
    const items = !chosen ? all : all.filter((item) => {
      const round = new Environment(scope);
      assign(node.loopvar, item, round);
      return isTrue(this.evaluate(node.iterable.test, round));
    });
    if (items.length === 0) return this.block(node.defaultBlock, new Environment(scope));
    let written = "";
    let before: Value | null = null;
    const changed = callable((args) => {
      const same = before !== null && equals(before, tuple(args));
      before = tuple(args);
      return boolean(!same);
    });
    for (const [i, item] of items.entries()) {
      spend(loopCost);
      const round = new Environment(scope);
      assign(node.loopvar, item, round);
      round.setVariable("loop", loopValue(items, i, changed));
      try {
        written += text(this.block(node.body, round));
      } catch (error) {
        if (!(error instanceof LoopControl)) throw error;
        written += error.written;
        if (error.kind === "break") break;
      }
    }
    return string(written);
  }

  /** The library has a macro see the names of its caller; Jinja those of its definition. */
  private macro(node: Node & { name: Identifier }, scope: Environment): Value {
    super.evaluate(node, scope);
    const defined = scope.lookupVariable(node.name.value);
    if (isFunction(defined)) {
      const inner = defined.value as unknown as FunctionBody;
      const outer: FunctionBody = (args, caller) => {
        const own = new Environment(scope);
        if (caller.variables.has("caller")) {
          own.setVariable("caller", caller.lookupVariable("caller"));
        }
        return inner(args, own);
      };
      (defined as { value: unknown }).value = outer;
    }
    return none();
  }
}

/** The value itself, once it is accounted for that something goes through it. */
function read(value: Value): Value {
  spend(sizeOf(value));
  return value;
}

type FunctionBody = (args: Value[], caller: Environment) => Value;

/** Binds a loop's variable, or its variables to the parts of an item. */
function assign(target: Loop["loopvar"], item: Value, scope: Environment): void {
  if (target.type === "Identifier") {
    scope.setVariable((target as Identifier).value, item);
    return;
  }
  const names = target.value as Identifier[];
  const parts = iterate(item);
  if (parts.length !== names.length) {
    throw new Error(`cannot unpack ${parts.length} values into ${names.length} names`);
  }
  names.forEach((name, i) => assign(name, parts[i], scope));
}

/** Jinja's `loop` in round i. */
function loopValue(items: Value[], i: number, changed: Value): Value {
  const length = items.length;
  const cycle = callable((args) => {
    if (args.length === 0) throw new Error("no items for cycling given");
    return args[i % args.length];
  });
  return dict(
    new Map(Object.entries({
      index: integer(i + 1),
      index0: integer(i),
      revindex: integer(length - i),
      revindex0: integer(length - i - 1),
      first: boolean(i === 0),
      last: boolean(i === length - 1),
      length: integer(length),
      previtem: items[i - 1] ?? nothing(),
      nextitem: items[i + 1] ?? nothing(),
      depth: integer(1),
      depth0: integer(0),
      cycle,
      changed,
    })),
  );
}
