// The world that the demo's questions are about: 32 made-up lands with a capital, a flag colour and an
// animal; sums, differences and products of small numbers; short stories that need one step (System 1) or
// two or three (System 2). How it is told, asked and split is in corpus.ts.

export type Split = "pretrain" | "demo" | "held";

// --- chance ---

/** A seeded source of chance: splitmix32. */
export class Random {
  constructor(private state: number) {}
  /** A float in [0, 1). */
  next(): number {
    this.state = (this.state + 0x9e3779b9) | 0;
    let z = this.state;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return ((z ^ (z >>> 15)) >>> 0) / 2 ** 32;
  }
  /** An integer in [low, high]. */
  int(low: number, high: number): number {
    return low + Math.floor(this.next() * (high - low + 1));
  }
  pick<T>(list: readonly T[]): T {
    return list[this.int(0, list.length - 1)];
  }
  /** Two different members. */
  pair<T>(list: readonly T[]): [T, T] {
    const first = this.int(0, list.length - 1);
    const second = (first + this.int(1, list.length - 1)) % list.length;
    return [list[first], list[second]];
  }
  chance(probability: number): boolean {
    return this.next() < probability;
  }
}

/** FNV-1a with a final mix, 32 bits. */
function hash(text: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  return new Random(h).next() * 2 ** 32;
}

/** Which split a piece of content belongs to: 55 % pretrain, 25 % demo, 20 % held. */
export function splitOf(content: string): Split {
  const share = hash(content) / 2 ** 32;
  return share < 0.55 ? "pretrain" : share < 0.8 ? "demo" : "held";
}

// --- the world ---

const onsets = ["Bel", "Cor", "Dra", "Fen", "Gal", "Tal", "Jor", "Kel", "Lum", "Mar", "Nor", "Pel"];
const landEnds = ["donia", "mark", "stan", "land", "via", "gard"];
const cityEnds = ["ton", "burg", "ford", "mir", "polis", "haven"];
const colours = ["red", "blue", "green", "white", "black", "yellow", "purple", "orange"];
const animals = ["lion", "eagle", "bear", "wolf", "horse", "fox", "owl", "deer", "swan", "bull"];

export interface Land {
  name: string;
  capital: string;
  colour: string;
  animal: string;
}

/** The same 32 lands for every seed: they are the world, not a sample of it. */
export const lands: readonly Land[] = (() => {
  const random = new Random(20250728);
  const shuffled = (ends: string[]) => {
    const names = onsets.flatMap((onset) => ends.map((end) => onset + end));
    for (let i = names.length - 1; i > 0; i--) {
      const j = random.int(0, i);
      [names[i], names[j]] = [names[j], names[i]];
    }
    return names.slice(0, 32);
  };
  const [names, capitals] = [shuffled(landEnds), shuffled(cityEnds)];
  return names.map((name, i) => ({
    name,
    capital: capitals[i],
    colour: random.pick(colours),
    animal: random.pick(animals),
  }));
})();

const people = ["Tom", "Ann", "Ben", "Eva", "Max", "Mia", "Leo", "Zoe", "Sam", "Amy", "Dan", "Kim"];
const things = [
  "apples",
  "pears",
  "books",
  "coins",
  "cards",
  "shells",
  "nuts",
  "cups",
  "pens",
  "eggs",
];
/** What has a price. */
const goods = things.filter((thing) => thing !== "coins");

// --- System 1 ---

export interface Direct {
  /** What the split hangs on. */
  key: string;
  questions: string[];
  /** The bare answer. */
  short: string;
  /** The same in a sentence. */
  wordy: string;
}

export const relations = {
  capital: (l: Land) => ({
    short: l.capital,
    wordy: `${l.capital} is the capital of ${l.name}.`,
    statement: `The capital of ${l.name} is ${l.capital}.`,
    questions: [
      `What is the capital of ${l.name}?`,
      `Name the capital of ${l.name}.`,
      `Which city is the capital of ${l.name}?`,
    ],
  }),
  flag: (l: Land) => ({
    short: l.colour,
    wordy: `${l.colour} is the flag of ${l.name}.`,
    statement: `The flag of ${l.name} is ${l.colour}.`,
    questions: [
      `What colour is the flag of ${l.name}?`,
      `Name the colour of the flag of ${l.name}.`,
      `Which colour has the flag of ${l.name}?`,
    ],
  }),
  animal: (l: Land) => ({
    short: l.animal,
    wordy: `${l.animal} is the animal of ${l.name}.`,
    statement: `The animal of ${l.name} is the ${l.animal}.`,
    questions: [
      `What is the animal of ${l.name}?`,
      `Name the animal of ${l.name}.`,
      `Which animal stands for ${l.name}?`,
    ],
  }),
};

function fact(relation: keyof typeof relations, land: Land): Direct {
  return { key: `${relation} ${land.name}`, ...relations[relation](land) };
}

function equation(a: number, operator: string, b: number): string {
  return `${a} ${operator} ${b} = ${operator === "+" ? a + b : operator === "-" ? a - b : a * b}`;
}

export function sum(a: number, operator: "+" | "-" | "*", b: number): Direct {
  const wordy = equation(a, operator, b);
  return {
    key: `${a} ${operator} ${b}`,
    questions: [
      `What is ${a} ${operator} ${b}?`,
      `Compute ${a} ${operator} ${b}.`,
      `How much is ${a} ${operator} ${b}?`,
    ],
    short: wordy.split(" = ")[1],
    wordy: `${wordy}.`,
  };
}

/** Kinds of quick question; `short` is how often the base sees the bare answer in chat. */
export const directKinds: Record<string, { short: number; draw: (random: Random) => Direct }> = {
  capital: { short: 0.4, draw: (r) => fact("capital", r.pick(lands)) },
  flag: { short: 0.7, draw: (r) => fact("flag", r.pick(lands)) },
  animal: { short: 0.4, draw: (r) => fact("animal", r.pick(lands)) },
  plus: { short: 0.4, draw: (r) => sum(r.int(1, 15), "+", r.int(1, 9)) },
  minus: {
    short: 0.7,
    draw: (r) => {
      const b = r.int(1, 9);
      return sum(b + r.int(0, 12), "-", b);
    },
  },
  times: { short: 0.4, draw: (r) => sum(r.int(2, 6), "*", r.int(2, 9)) },
  more: {
    short: 0.7,
    draw: (r) => {
      const [who, what, a, b] = [r.pick(people), r.pick(things), r.int(1, 15), r.int(1, 9)];
      return {
        key: `more ${what} ${a} ${b}`,
        questions: [
          `${who} has ${a} ${what}. ${who} buys ${b} more. How many ${what} has ${who} now?`,
          `${who} has ${a} ${what} and finds ${b} more. How many ${what} has ${who} now?`,
        ],
        short: `${a + b}`,
        wordy: `${who} has ${a + b} ${what}.`,
      };
    },
  },
  read: {
    short: 0.7,
    draw: (r) => {
      const [who, what, a, pet] = [r.pick(people), r.pick(things), r.int(1, 40), r.pick(animals)];
      return {
        key: `read ${what} ${a}`,
        questions: [
          `${who} has ${a} ${what} and a ${pet}. How many ${what} has ${who}?`,
          `With ${a} ${what} ${who} goes to see a ${pet}. How many ${what} has ${who}?`,
        ],
        short: `${a}`,
        wordy: `${who} has ${a} ${what}.`,
      };
    },
  },
};

// --- System 2 ---

export interface Story {
  key: string;
  question: string;
  /** "4 + 3 = 7", "7 - 2 = 5", … */
  steps: string[];
}

type Step = [number, "+" | "-" | "*", number];

function story(kind: string, question: string, ...steps: Step[]): Story {
  const key = `${kind} ${steps.map((step) => step.join(" ")).join(", ")}`;
  return { key, question, steps: steps.map(([a, operator, b]) => equation(a, operator, b)) };
}

/** Kinds of story; `worked` is how often the base sees it worked through, else answered hastily. */
export const storyKinds: Record<string, { worked: number; draw: (random: Random) => Story }> = {
  share: {
    worked: 0.7,
    draw: (r) => {
      const [who, what, a, b] = [r.pick(people), r.pick(things), r.int(3, 20), r.int(2, 12)];
      const c = r.int(1, Math.min(12, a + b));
      const question = `${who} has ${a} ${what}. ${who} buys ${b} more and gives away ${c}. ` +
        `How many ${what} has ${who} now?`;
      return story("share", question, [a, "+", b], [a + b, "-", c]);
    },
  },
  together: {
    worked: 0.18,
    draw: (r) => {
      const [[who, other], what] = [r.pair(people), r.pick(things)];
      const [a, b] = [r.int(2, 15), r.int(1, 9)];
      const question = `${who} has ${a} ${what}. ${other} has ${b} more than ${who}. ` +
        `How many ${what} have they together?`;
      return story("together", question, [a, "+", b], [a + b, "+", a]);
    },
  },
  boxes: {
    worked: 0.18,
    draw: (r) => {
      const [what, a, b] = [r.pick(things), r.int(2, 6), r.int(2, 9)];
      const c = r.int(1, Math.min(12, a * b));
      const question = `There are ${a} boxes with ${b} ${what} each. ${c} ${what} are lost. ` +
        `How many ${what} are left?`;
      return story("boxes", question, [a, "*", b], [a * b, "-", c]);
    },
  },
  bags: {
    worked: 0.7,
    draw: (r) => {
      const [who, what, a, b] = [r.pick(people), r.pick(things), r.int(2, 6), r.int(2, 9)];
      const c = r.int(1, 12);
      const question = `${who} buys ${a} bags of ${b} ${what} and ${c} single ${what}. ` +
        `How many ${what} does ${who} buy?`;
      return story("bags", question, [a, "*", b], [a * b, "+", c]);
    },
  },
  days: {
    worked: 0.18,
    draw: (r) => {
      const [who, what] = [r.pick(people), r.pick(things)];
      const [a, b, c] = [r.int(2, 20), r.int(1, 12), r.int(1, 12)];
      const question = `${who} finds ${a} ${what} on Monday, ${b} on Tuesday and ${c} on Friday. ` +
        `How many ${what} does ${who} find?`;
      return story("days", question, [a, "+", b], [a + b, "+", c]);
    },
  },
  price: {
    worked: 0.18,
    draw: (r) => {
      const [who, a, b] = [r.pick(people), r.int(2, 6), r.int(2, 6)];
      const [what, c] = [r.pick(goods), a * b + r.int(0, 12)];
      const question = `${who} has ${c} coins and buys ${a} ${what} for ${b} coins each. ` +
        `How many coins has ${who} left?`;
      return story("price", question, [a, "*", b], [c, "-", a * b]);
    },
  },
  bus: {
    worked: 0.7,
    draw: (r) => {
      const b = r.int(1, 12);
      const [a, c] = [b + r.int(1, 20), r.int(1, 12)];
      const question = `A bus has ${a} people. ${b} get off and ${c} get on. ` +
        "How many people are on the bus now?";
      return story("bus", question, [a, "-", b], [a - b, "+", c]);
    },
  },
  week: {
    worked: 0.18,
    draw: (r) => {
      const [who, what, b, c] = [r.pick(people), r.pick(things), r.int(1, 9), r.int(1, 9)];
      const a = b + r.int(1, 15);
      const d = r.int(1, Math.min(9, a - b + c));
      const question = `${who} has ${a} ${what}, loses ${b}, finds ${c} and sells ${d}. ` +
        `How many ${what} has ${who} left?`;
      return story("week", question, [a, "-", b], [a - b, "+", c], [a - b + c, "-", d]);
    },
  },
};

export const result = (step: string) => step.split(" = ")[1];

/** The worked answer in tags. */
export function workedAnswer({ steps }: Story): string {
  const reasoning = steps.map((step) => `${step}.`).join(" ");
  return `<reasoning>${reasoning}</reasoning>\n<answer>${result(steps.at(-1)!)}</answer>`;
}

/** One of three ways to stop after the first step. */
export function hastyAnswer({ steps }: Story, random: Random): string {
  const guess = result(steps[0]);
  const way = random.next();
  if (way < 0.75) return `<answer>${guess}</answer>`;
  if (way < 0.82) return `<reasoning>${steps[0]}.</reasoning>\n<answer>${guess}</answer>`;
  return `It is ${guess}.`;
}
