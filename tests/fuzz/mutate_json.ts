// Damages a JSON value where `mutate` would mostly break its syntax: parts replaced by others or by extreme
// values, left out, doubled or renamed, numbers and texts changed. The same seed gives the same value.

import { type RandomGenerator, randomGenerator } from "../../lib/lora/random.ts";
import { mutate } from "./mutate.ts";

const extremes: readonly unknown[] = [
  null,
  true,
  false,
  0,
  -1,
  0.5,
  1e308,
  2 ** 31,
  2 ** 53,
  "",
  "a",
  "__proto__",
  "constructor",
  "\ud800",
  [],
  {},
  [[]],
  "(a+)+$",
];

type Container = Record<string, unknown> | unknown[];

/** A place in the tree: `holder[key]`. */
interface Place {
  holder: Container;
  key: string | number;
}

const below = (random: RandomGenerator, limit: number) => Math.floor(random.uniform() * limit);
const pick = <T>(random: RandomGenerator, from: readonly T[]): T =>
  from[below(random, from.length)];
const valueAt = ({ holder, key }: Place) => (holder as Record<string | number, unknown>)[key];

/** Sets a member of its own, "__proto__" like any other. */
function put({ holder, key }: Place, value: unknown): void {
  Object.defineProperty(holder, key, {
    value,
    writable: true,
    enumerable: true,
    configurable: true,
  });
}

/** Every place below a value, at most some of each long list's or object's, so that a vocabulary is not all. */
function placesIn(random: RandomGenerator, value: unknown): Place[] {
  if (typeof value !== "object" || value === null) return [];
  const holder = value as Container;
  const keys: (string | number)[] = Array.isArray(holder)
    ? [...holder.keys()]
    : Object.keys(holder);
  const from = below(random, Math.max(1, keys.length - 15));
  return keys.slice(from, from + 16).flatMap((key) => [
    { holder, key },
    ...placesIn(random, valueAt({ holder, key })),
  ]);
}

function change(random: RandomGenerator, place: Place, places: Place[]): void {
  const { holder, key } = place;
  const value = valueAt(place);
  const other = () => structuredClone(valueAt(pick(random, places)));
  switch (below(random, 6)) {
    case 0:
      return put(place, structuredClone(pick(random, extremes)));
    case 1:
      return put(place, other());
    case 2:
      if (Array.isArray(holder)) holder.splice(Number(key), 1);
      else delete holder[key];
      return;
    case 3:
      if (Array.isArray(holder)) holder.splice(Number(key), 0, other());
      else put({ holder, key: pick(random, ["__proto__", "", "type", `${key}_`]) }, value);
      return;
    case 4:
      if (typeof value === "number") return put(place, value * pick(random, [-1, 2, 0.5, 1e9]) + 1);
      return put(place, [value]);
    default: {
      if (typeof value !== "string") return put(place, JSON.stringify(value));
      const bytes = mutate(new TextEncoder().encode(value), below(random, 2 ** 32));
      return put(place, new TextDecoder().decode(bytes));
    }
  }
}

/** A copy of a JSON value with one to four changes. */
export function mutateJson(original: unknown, seed: number): unknown {
  const random = randomGenerator(seed, "mutate json");
  const top = [structuredClone(original)];
  for (let left = 1 + below(random, 4); left > 0; left--) {
    const places = placesIn(random, top);
    change(random, pick(random, places), places);
    if (top.length === 0) top.push(null);
  }
  return top[0];
}
