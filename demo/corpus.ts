// The texts the embedded tiny models learn from, the demo's samples and the teachers' examples: a seeded
// generator over the world of world.ts. Same arguments, same bytes. No dependencies.
//
// What the base model is *not* taught, on purpose, so that the two phases have something to lift:
// - System 1: in chat it answers in a sentence ("Y is the capital of X.", "7 * 3 = 21.") for half the kinds
//   of question, and for the others mostly with the bare answer that an exact grader wants. SFT teaches
//   the bare answer for all.
// - System 2: next to the worked answer in tags it saw hasty ones that stop after the first step.
//   `worked` says how often for which kind of story; for some the worked answer is the likeliest, for
//   others it is not but can be sampled. GRPO has to find out that working it through pays.
//
// Three disjoint splits by a hash of the content (the fact, the operands, the story's numbers):
// "pretrain" shows up in chats of the pre-training and trains the teachers, "demo" is what the demo
// classifies and trains on, "held" is only evaluated. Running text covers the whole world, as a corpus
// would: every fact and sum in statements and in quiz lines ("What is the animal of X? bear."). Chats
// answer questions of "demo" and "held" in one way only: facts, which must be known, in a sentence; never
// with the bare answer that is graded. Their sums and stories occur in no chat.
//
//   deno run demo/corpus.ts pretrain|samples|classification --seed N --count N   prints JSON lines

import {
  type Direct,
  directKinds,
  hastyAnswer,
  lands,
  Random,
  relations,
  result,
  type Split,
  splitOf,
  type Story,
  storyKinds,
  sum,
  workedAnswer,
} from "./world.ts";

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

/** Draws until the content falls into the split; with `allFacts` any fact will do. */
function drawDirect(
  random: Random,
  split: Split,
  allFacts = false,
): { kind: string; item: Direct } {
  const kind = random.pick(Object.keys(directKinds));
  for (;;) {
    const item = directKinds[kind].draw(random);
    if (splitOf(item.key) === split || (allFacts && kind in relations)) return { kind, item };
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
  const quiz = random.chance(0.4);
  const lines: string[] = [];
  for (let n = random.int(3, 5); n > 0; n--) {
    const l = random.pick(lands);
    const relation = random.pick(Object.values(relations))(l);
    if (quiz) lines.push(`${random.pick(relation.questions)} ${relation.short}.`);
    else {
      lines.push(random.pick([
        relation.statement,
        relation.wordy,
        `${l.name}: ${l.capital}, ${l.colour}, ${l.animal}.`,
        `${l.name} has a ${l.colour} flag, its capital is ${l.capital} and its animal the ` +
        `${l.animal}.`,
      ]));
    }
  }
  return lines.join(" ");
}

function equationsText(random: Random): string {
  const quiz = random.chance(0.4);
  const lines: string[] = [];
  for (let n = random.int(4, 7); n > 0; n--) {
    const operator = random.pick(["+", "+", "-", "-", "*"] as const);
    let [a, b] = [random.int(2, 9), random.int(2, 9)];
    if (operator !== "*") [a, b] = [random.int(1, 40), random.int(1, 12)];
    // A difference takes little from much or leaves little of much.
    if (operator === "-") [a, b] = [a + b, random.chance(0.7) ? b : a];
    const { questions, short, wordy } = sum(a, operator, b);
    lines.push(quiz ? `${random.pick(questions)} ${short}.` : wordy);
  }
  return lines.join(" ");
}

/** Endless pre-training documents: facts, equations, chats of the split "pretrain". */
export function* pretrainingText(seed: number): Generator<Document> {
  const random = new Random(seed);
  for (;;) {
    const what = random.next();
    if (what < 0.15) yield { text: factsText(random) };
    else if (what < 0.3) yield { text: equationsText(random) };
    else if (what < 0.78) {
      const { kind, item } = drawDirect(random, "pretrain", true);
      const bare = splitOf(item.key) === "pretrain" && random.chance(directKinds[kind].short);
      const content = bare ? item.short : item.wordy;
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
