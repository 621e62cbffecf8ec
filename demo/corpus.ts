// The world the embedded tiny models know: a generator of pre-training text, demo samples and
// classification examples. Seeded and deterministic: same arguments, same bytes. No dependencies.
//
// The world. 64 made-up lands with a capital, a flag colour and an animal; sums, differences and
// products of small numbers; short stories that need one step (System 1) or two or three (System 2).
//
// What the base model is *not* taught, on purpose, so that the two phases have something to lift:
// - System 1: in chat it answers in a sentence ("The capital of X is Y.") for most kinds of question, and only for
//   some mostly with the bare answer that an exact grader wants. SFT teaches the bare answer for all.
// - System 2: next to the worked answer in tags it saw hasty ones that stop after the first step.
//   `habits` says how often for which kind of story; for some the worked answer is the likeliest, for others
//   it is not but can be sampled. GRPO has to find out that working it through pays.
//
// Three disjoint splits by a hash of the content (the fact, the operands, the story's numbers):
// "pretrain" shows up in chats of the pre-training and trains the teachers, "demo" is what the demo
// classifies and trains on, "held" is only evaluated. Plain statements ("The capital of X is Y.", "7 + 8 = 15.")
// cover all facts and sums, as a text corpus would; no question of "demo" or "held" is ever answered in them.
//
//   deno run demo/corpus.ts pretrain|samples|classification|tables --seed N --count N   prints JSON lines

export type Split = "pretrain" | "demo" | "held";
export type System = "system1" | "system2";

/** A question with its reference answer, as the demo uploads it. */
export interface DemoSample {
  question: string;
  /** System 1: the bare answer. System 2: the worked answer in tags, or for some only the number. */
  answer: string;
  /** The truth, by the number of steps; what the vote is compared with. */
  system: System;
  /** Which kind of question, e.g. "capital" or "share". */
  kind: string;
}

/** A pre-training document: running text, or a chat to be rendered with the chat template. */
export type Document =
  | { text: string }
  | { messages: { role: "system" | "user" | "assistant"; content: string }[] };

/** Asks for the tags; `system_prompt` of the GRPO phase and of the System-2 evaluation. */
export const taggedSystemPrompt =
  "Reply with <reasoning>the steps</reasoning> and <answer>the number</answer>.";

/** The names teachers are told to act as while they are trained. */
const targetModels = ["lorapar-tiny", "tiny", "models/tiny", "SmolLM2-135M-Instruct", "llama"];

/** The prompt of lib/par/classify.ts, word for word. */
export function classificationPrompt(model: string, question: string, answer: string): string {
  return `Act as ${model}. You are given a task and its answer. Decide how you would solve it.\n` +
    "System1: immediate recall, straightforward reading or simple inference; no multi-step reasoning.\n" +
    "System2: multi-step logical reasoning, chaining of information, complex inference.\n" +
    `Task: ${question}\nAnswer: ${answer}\nReply with one word, System1 or System2.`;
}

// ---------------------------------------------------------------- chance

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

/** Which split a piece of content belongs to: 45 % pretrain, 35 % demo, 20 % held. */
export function splitOf(content: string): Split {
  const share = hash(content) / 2 ** 32;
  return share < 0.45 ? "pretrain" : share < 0.8 ? "demo" : "held";
}

// ---------------------------------------------------------------- the world

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

/** The same 64 lands for every seed: they are the world, not a sample of it. */
export const lands: readonly Land[] = (() => {
  const random = new Random(20250728);
  const shuffled = (ends: string[]) => {
    const names = onsets.flatMap((onset) => ends.map((end) => onset + end));
    for (let i = names.length - 1; i > 0; i--) {
      const j = random.int(0, i);
      [names[i], names[j]] = [names[j], names[i]];
    }
    return names.slice(0, 64);
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

// ---------------------------------------------------------------- System 1

interface Direct {
  /** What the split hangs on. */
  key: string;
  questions: string[];
  /** The bare answer. */
  short: string;
  /** The same in a sentence. */
  wordy: string;
}

const relations = {
  capital: (l: Land) => ({
    short: l.capital,
    wordy: `The capital of ${l.name} is ${l.capital}.`,
    questions: [
      `What is the capital of ${l.name}?`,
      `Name the capital of ${l.name}.`,
      `Which city is the capital of ${l.name}?`,
    ],
  }),
  flag: (l: Land) => ({
    short: l.colour,
    wordy: `The flag of ${l.name} is ${l.colour}.`,
    questions: [
      `What colour is the flag of ${l.name}?`,
      `Name the colour of the flag of ${l.name}.`,
      `Which colour has the flag of ${l.name}?`,
    ],
  }),
  animal: (l: Land) => ({
    short: l.animal,
    wordy: `The animal of ${l.name} is the ${l.animal}.`,
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

function sum(a: number, operator: "+" | "-" | "*", b: number): Direct {
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
const directKinds: Record<string, { short: number; draw: (random: Random) => Direct }> = {
  capital: { short: 0.25, draw: (r) => fact("capital", r.pick(lands)) },
  flag: { short: 0.75, draw: (r) => fact("flag", r.pick(lands)) },
  animal: { short: 0.25, draw: (r) => fact("animal", r.pick(lands)) },
  plus: { short: 0.25, draw: (r) => sum(r.int(1, 20), "+", r.int(1, 12)) },
  minus: {
    short: 0.75,
    draw: (r) => {
      const b = r.int(1, 12);
      return sum(b + r.int(0, 15), "-", b);
    },
  },
  times: { short: 0.25, draw: (r) => sum(r.int(2, 9), "*", r.int(2, 9)) },
  more: {
    short: 0.25,
    draw: (r) => {
      const [who, what, a, b] = [r.pick(people), r.pick(things), r.int(1, 20), r.int(1, 12)];
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
    short: 0.75,
    draw: (r) => {
      const [who, [one, other], a, b] = [
        r.pick(people),
        r.pair(things),
        r.int(1, 30),
        r.int(1, 30),
      ];
      const first = r.chance(0.5);
      return {
        key: `read ${one} ${other} ${a} ${b}`,
        questions: [
          `${who} has ${a} ${one} and ${b} ${other}. How many ${first ? one : other} has ${who}?`,
          `${who} buys ${a} ${one} and ${b} ${other}. How many ${first ? one : other} does ` +
          `${who} buy?`,
        ],
        short: `${first ? a : b}`,
        wordy: `${who} has ${first ? a : b} ${first ? one : other}.`,
      };
    },
  },
};

// ---------------------------------------------------------------- System 2

interface Story {
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
const storyKinds: Record<string, { worked: number; draw: (random: Random) => Story }> = {
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
    worked: 0.25,
    draw: (r) => {
      const [[who, other], what] = [r.pair(people), r.pick(things)];
      const [a, b] = [r.int(2, 15), r.int(1, 9)];
      const question = `${who} has ${a} ${what}. ${other} has ${b} more than ${who}. ` +
        `How many ${what} have they together?`;
      return story("together", question, [a, "+", b], [a + b, "+", a]);
    },
  },
  boxes: {
    worked: 0.25,
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
    worked: 0.25,
    draw: (r) => {
      const [who, what] = [r.pick(people), r.pick(things)];
      const [a, b, c] = [r.int(2, 20), r.int(1, 12), r.int(1, 12)];
      const question = `${who} finds ${a} ${what} on Monday, ${b} on Tuesday and ${c} on Friday. ` +
        `How many ${what} does ${who} find?`;
      return story("days", question, [a, "+", b], [a + b, "+", c]);
    },
  },
  price: {
    worked: 0.25,
    draw: (r) => {
      const [who, a, b] = [r.pick(people), r.int(2, 6), r.int(2, 6)];
      const [what, c] = [r.pick(things.filter((t) => t !== "coins")), a * b + r.int(0, 12)];
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
    worked: 0.25,
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

const result = (step: string) => step.split(" = ")[1];

/** The worked answer in tags. */
function workedAnswer({ steps }: Story): string {
  const reasoning = steps.map((step) => `${step}.`).join(" ");
  return `<reasoning>${reasoning}</reasoning>\n<answer>${result(steps.at(-1)!)}</answer>`;
}

/** One of three ways to stop after the first step. */
function hastyAnswer({ steps }: Story, random: Random): string {
  const guess = result(steps[0]);
  const way = random.next();
  if (way < 0.6) return `<answer>${guess}</answer>`;
  if (way < 0.8) return `<reasoning>${steps[0]}.</reasoning>\n<answer>${guess}</answer>`;
  return `It is ${guess}.`;
}

// ---------------------------------------------------------------- streams

/** Draws until the content falls into the split. */
function drawDirect(random: Random, split: Split): { kind: string; item: Direct } {
  const kind = random.pick(Object.keys(directKinds));
  for (;;) {
    const item = directKinds[kind].draw(random);
    if (splitOf(item.key) === split) return { kind, item };
  }
}

function drawStory(random: Random, split: Split): { kind: string; item: Story } {
  const kind = random.pick(Object.keys(storyKinds));
  for (;;) {
    const item = storyKinds[kind].draw(random);
    if (splitOf(item.key) === split) return { kind, item };
  }
}

function factsText(random: Random): string {
  const lines: string[] = [];
  for (let n = random.int(3, 5); n > 0; n--) {
    const l = random.pick(lands);
    lines.push(random.pick([
      `The capital of ${l.name} is ${l.capital}.`,
      `The flag of ${l.name} is ${l.colour}.`,
      `The animal of ${l.name} is the ${l.animal}.`,
      `${l.name}: ${l.capital}, ${l.colour}, ${l.animal}.`,
      `${l.capital} is the capital of ${l.name}.`,
      `${l.name} has a ${l.colour} flag, its capital is ${l.capital} and its animal the ${l.animal}.`,
    ]));
  }
  return lines.join(" ");
}

function equationsText(random: Random): string {
  const lines: string[] = [];
  for (let n = random.int(6, 10); n > 0; n--) {
    const operator = random.pick(["+", "+", "-", "-", "*"] as const);
    let [a, b] = [random.int(2, 9), random.int(2, 9)];
    if (operator !== "*") [a, b] = [random.int(1, 40), random.int(1, 12)];
    // A difference takes little from much or leaves little of much.
    if (operator === "-") [a, b] = [a + b, random.chance(0.7) ? b : a];
    lines.push(`${equation(a, operator, b)}.`);
  }
  return lines.join(" ");
}

/** Endless pre-training documents: facts, equations, chats of the split "pretrain". */
export function* pretrainingText(seed: number): Generator<Document> {
  const random = new Random(seed);
  for (;;) {
    const what = random.next();
    if (what < 0.14) yield { text: factsText(random) };
    else if (what < 0.28) yield { text: equationsText(random) };
    else if (what < 0.76) {
      const { kind, item } = drawDirect(random, "pretrain");
      const content = random.chance(directKinds[kind].short) ? item.short : item.wordy;
      yield {
        messages: [
          { role: "user", content: random.pick(item.questions) },
          { role: "assistant", content },
        ],
      };
    } else {
      const { kind, item } = drawStory(random, "pretrain");
      const worked = random.chance(storyKinds[kind].worked);
      const content = worked ? workedAnswer(item) : hastyAnswer(item, random);
      const chat = [
        { role: "user" as const, content: item.question },
        { role: "assistant" as const, content },
      ];
      yield {
        messages: random.chance(0.15)
          ? chat
          : [{ role: "system", content: taggedSystemPrompt }, ...chat],
      };
    }
  }
}

/** Endless samples of one system out of one split, no question twice. */
function* samplesOf(system: System, split: Split, random: Random): Generator<DemoSample> {
  const seen = new Set<string>();
  for (;;) {
    let sample: DemoSample;
    if (system === "system1") {
      const { kind, item } = drawDirect(random, split);
      sample = { question: random.pick(item.questions), answer: item.short, system, kind };
    } else {
      const { kind, item } = drawStory(random, split);
      // Real sets often carry the result alone, and a teacher should not go by the tags.
      const answer = random.chance(0.3) ? result(item.steps.at(-1)!) : workedAnswer(item);
      sample = { question: item.question, answer, system, kind };
    }
    if (seen.has(sample.question)) continue;
    seen.add(sample.question);
    yield sample;
  }
}

/**
 * The demo's samples: as many of each system, interleaved, `train` in all to classify and train on and
 * `heldOut` in all to evaluate; facts, operands and numbers of the two never meet.
 */
export function demoSamples(
  seed: number,
  { train, heldOut }: { train: number; heldOut: number },
): { train: DemoSample[]; heldOut: DemoSample[] } {
  const take = (split: Split, count: number, salt: number) => {
    const streams = [
      samplesOf("system1", split, new Random(seed * 4 + salt)),
      samplesOf("system2", split, new Random(seed * 4 + salt + 1)),
    ];
    return Array.from({ length: count }, (_, i) => streams[i % 2].next().value as DemoSample);
  };
  return { train: take("demo", train, 0), heldOut: take("held", heldOut, 2) };
}

/** Endless examples for the teachers, of the split "pretrain": prompt and the right reply. */
export function* classificationExamples(
  seed: number,
): Generator<{ prompt: string; completion: "System1" | "System2"; sample: DemoSample }> {
  const random = new Random(seed);
  for (;;) {
    const system = random.chance(0.5) ? "system1" : "system2";
    const sample = samplesOf(system, "pretrain", random).next().value as DemoSample;
    const prompt = classificationPrompt(random.pick(targetModels), sample.question, sample.answer);
    yield { prompt, completion: system === "system1" ? "System1" : "System2", sample };
  }
}

if (import.meta.main) {
  const [what, ...rest] = Deno.args;
  const option = (name: string, fallback: number) => {
    const at = rest.indexOf(`--${name}`);
    return at < 0 ? fallback : Number(rest[at + 1]);
  };
  const [seed, count] = [option("seed", 0), option("count", 10)];
  const lines: string[] = [];
  const flush = () => {
    if (lines.length > 0) console.log(lines.splice(0).join("\n"));
  };
  const print = (records: Iterable<unknown>) => {
    let left = count;
    for (const record of records) {
      if (left-- <= 0) break;
      if (lines.push(JSON.stringify(record)) >= 1000) flush();
    }
    flush();
  };
  if (what === "pretrain") print(pretrainingText(seed));
  else if (what === "classification") print(classificationExamples(seed));
  else if (what === "samples") {
    const { train, heldOut } = demoSamples(seed, { train: count, heldOut: count });
    for (const s of train) lines.push(JSON.stringify({ split: "train", ...s }));
    for (const s of heldOut) lines.push(JSON.stringify({ split: "held_out", ...s }));
    flush();
  } else {
    console.error("Usage: corpus.ts pretrain|samples|classification [--seed N] [--count N]");
    Deno.exit(2);
  }
}
