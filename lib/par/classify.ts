// Multi-model role-play and voting (paper, section 3.1; METHOD.md, section 1): every teacher is told to
// act as the target model, is given the task and its answer, and says System1 or System2; the label is
// the majority of the votes. The paper is silent on the rest: an unreadable reply is asked for again, at
// most twice, with another seed, and then is an abstention; a tie goes by the tie rule; where nobody
// voted the label is undecided. Every raw reply is kept. Left out: weighting teachers.

import { Cancelled, InvalidRequest } from "../errors.ts";
import type { Message, Sample, System } from "../data/record.ts";
import { sampleName } from "../data/sample.ts";
import { deriveSeed } from "../seeds.ts";
import { countVotes, fleissKappa, pairwiseAgreement, sampleAgreement } from "./agreement.ts";
import type { ClassifySettings } from "./settings.ts";
import type { Teacher } from "./teachers.ts";

export interface Vote {
  teacher: string;
  /** null: the teacher abstained, no reply could be read. */
  vote: System | null;
  /** The raw reply the vote was read from, or the last unreadable one. */
  reply: string;
  /** Raw replies before it that could not be read; absent when there was none. */
  unreadable?: string[];
}

/** What classification adds to a sample's record. */
export interface Classified {
  system: System | "undecided";
  /** Share of the readable votes that the winning label has. */
  agreement: number;
  votes: Vote[];
}

export interface Classification {
  /** In the order of the samples. */
  samples: Classified[];
  counts: { system1: number; system2: number; undecided: number; abstentions: number };
  /** Mean over the samples that have a vote. */
  agreement: number;
  fleiss_kappa: number | null;
  /** Without the pairs that never voted on the same sample. */
  pairwise: { teachers: [string, string]; agreement: number }[];
}

export interface ClassifyOptions {
  /** Told after each reply that became a vote or an abstention. */
  onProgress?: (votes: number, total: number) => void;
  signal?: AbortSignal;
}

/** How often an unreadable reply is asked for again. */
const maxAsksAgain = 2;

/**
 * Labels samples by the teachers' votes.
 * @throws {InvalidRequest} when a sample has no answer, teachers share a name, or one cannot be asked.
 * @throws {Cancelled} when `signal` aborts.
 */
export async function classify(
  samples: Sample[],
  teachers: Teacher[],
  settings: Pick<ClassifySettings, "target_model" | "votes_per_teacher" | "tie" | "seed">,
  { onProgress, signal }: ClassifyOptions = {},
): Promise<Classification> {
  const names = teachers.map(({ name }) => name);
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) {
    throw new InvalidRequest(`Cannot tell two teachers "${twice}" apart: rename one`, "teachers");
  }
  const prompts = samples.map((sample, index) =>
    rolePlayPrompt(settings.target_model, sample, index)
  );

  const total = samples.length * teachers.length * settings.votes_per_teacher;
  let done = 0;
  const votes = await askAll(
    teachers,
    prompts,
    settings,
    signal,
    () => onProgress?.(++done, total),
  );

  const classified = samples.map((_, index) =>
    decide(votes.flatMap((ofTeacher) => ofTeacher[index]), settings.tie)
  );
  return { samples: classified, ...summarise(classified, names) };
}

/**
 * The question put to a teacher: one user message.
 * @throws {InvalidRequest} when the sample has no answer.
 */
export function rolePlayPrompt(targetModel: string, sample: Sample, index: number): Message[] {
  if (sample.answer === null) {
    throw new InvalidRequest(
      `Cannot classify ${
        sampleName(sample, index + 1)
      }: it has no answer, and teachers judge a task ` +
        "by its answer",
    );
  }
  const content = `Act as ${targetModel}. You are given a task and its answer. \
Decide how you would solve it.
System1: immediate recall, straightforward reading or simple inference; no multi-step reasoning.
System2: multi-step logical reasoning, chaining of information, complex inference.
Task: ${taskOf(sample)}
Answer: ${sample.answer}
Reply with one word, System1 or System2.`;
  return [{ role: "user", content }];
}

/** The task in words: the question alone, or the turns of a longer conversation by their roles. */
function taskOf({ prompt }: Sample): string {
  const turns = prompt.filter(({ role }) => role !== "system");
  if (turns.length === 1) return turns[0].content;
  return turns.map(({ role, content }) => `${role}: ${content}`).join("\n");
}

/**
 * The verdict in a reply, or null when it cannot be read. "System 1", "system-2", "**System2**", "S1" and
 * "System two" are understood; thoughts in <think> tags and denials ("not System1") are passed over. When
 * both labels are named, the one that has a line of its own counts, else the one that the reply begins
 * with and ends a sentence; "System1 or System2" is no verdict.
 */
export function readVote(reply: string): System | null {
  const text = reply.replace(/<think>[^]*?(<\/think>|$)/gi, "").replace(/[*_`"'’#]/g, "");
  const label = /\b(?:system|sys|s)[ -]?(1|2|one|two)\b/gi;
  const denied =
    /\b(?:not|(?:is|was|are|does|would|should)nt|than|instead of)\s+(?:a |an |be |just |simply )*$/i;
  const named = (text: string): System[] =>
    [...text.matchAll(label)]
      .filter(({ index }) => !denied.test(text.slice(Math.max(0, index - 40), index)))
      .map(([, which]) => /1|one/i.test(which) ? "system1" : "system2");
  const one = (labels: System[]) => new Set(labels).size === 1 ? labels[0] : null;

  const all = one(named(text));
  if (all) return all;
  const alone = /^\W*(?:(?:answer|verdict|label)\W+)?(?:system|sys|s)[ -]?(?:1|2|one|two)\W*$/i;
  const onOwnLine = one(text.split("\n").filter((line) => alone.test(line)).flatMap(named));
  if (onOwnLine) return onOwnLine;
  const [opening] = text.match(/^\W*(?:system|sys|s)[ -]?(?:1|2|one|two)\s*[.:;,!\n]/i) ?? [];
  return opening === undefined ? null : one(named(opening));
}

/** The votes of every teacher: [teacher][sample][vote of that teacher]. */
async function askAll(
  teachers: Teacher[],
  prompts: Message[][],
  { votes_per_teacher, seed }: Pick<ClassifySettings, "votes_per_teacher" | "seed">,
  signal: AbortSignal | undefined,
  onVote: () => void,
): Promise<Vote[][][]> {
  // One teacher's failure ends the others, whose replies would go nowhere.
  const failed = new AbortController();
  const stop = AbortSignal.any([failed.signal, ...(signal ? [signal] : [])]);
  let failure: unknown = null;
  const votes: Vote[][][] = teachers.map(() => prompts.map(() => []));

  async function ask(index: number) {
    for (let round = 0; round < votes_per_teacher; round++) {
      const ofRound = await askTeacher(
        teachers[index],
        prompts,
        (attempt) => seedOf(seed, index, round, attempt),
        stop,
        onVote,
      );
      ofRound.forEach((vote, sample) => votes[index][sample].push(vote));
    }
  }
  async function askInTurn(indices: number[]) {
    try {
      for (const index of indices) await ask(index);
    } catch (error) {
      failure ??= error;
      failed.abort();
    }
  }
  const indices = teachers.map((_, index) => index);
  await Promise.all([
    askInTurn(indices.filter((index) => teachers[index].local)),
    ...indices.filter((index) => !teachers[index].local).map((index) => askInTurn([index])),
  ]);
  if (signal?.aborted) throw new Cancelled("The classification was cancelled");
  if (failure !== null) throw failure;
  return votes;
}

/** One vote of one teacher on every prompt; what cannot be read is asked for again. */
async function askTeacher(
  teacher: Teacher,
  prompts: Message[][],
  seedOfAttempt: (attempt: number) => number,
  signal: AbortSignal,
  onVote: () => void,
): Promise<Vote[]> {
  const replies: string[][] = prompts.map(() => []);
  let open = prompts.map((_, index) => index);
  for (let attempt = 0; attempt <= maxAsksAgain && open.length > 0; attempt++) {
    if (signal.aborted) throw new Cancelled("The classification was cancelled");
    const isSettled = (reply: string) => attempt === maxAsksAgain || readVote(reply) !== null;
    const given = await teacher.voteAll(
      open.map((index) => prompts[index]),
      seedOfAttempt(attempt),
      (_, reply) => isSettled(reply) && onVote(),
      signal,
    );
    open.forEach((index, place) => replies[index].push(given[place]));
    open = open.filter((_, place) => !isSettled(given[place]));
  }
  return replies.map((ofSample) => {
    const reply = ofSample.at(-1)!;
    const unreadable = ofSample.slice(0, -1);
    return {
      teacher: teacher.name,
      vote: readVote(reply),
      reply,
      ...(unreadable.length > 0 ? { unreadable } : {}),
    };
  });
}

/** A seed in [0, 2^31) for each request; servers take no larger ones. */
function seedOf(seed: number, teacher: number, round: number, attempt: number): number {
  return deriveSeed(seed, "vote", teacher, round, attempt) >>> 1;
}

/** The label of one sample. */
export function decide(votes: Vote[], tie: ClassifySettings["tie"]): Classified {
  const counts = countVotes(votes);
  const { system1, system2 } = counts;
  const system = system1 + system2 === 0
    ? "undecided"
    : system1 === system2
    ? tie
    : system1 > system2
    ? "system1"
    : "system2";
  return { system, agreement: sampleAgreement(counts), votes };
}

function summarise(samples: Classified[], teachers: string[]): Omit<Classification, "samples"> {
  const count = (label: Classified["system"]) =>
    samples.filter(({ system }) => system === label).length;
  const perSample = samples.map(({ votes }) => countVotes(votes));
  const voted = samples.filter((_, index) =>
    perSample[index].system1 + perSample[index].system2 > 0
  );
  return {
    counts: {
      system1: count("system1"),
      system2: count("system2"),
      undecided: count("undecided"),
      abstentions: samples.flatMap(({ votes }) => votes).filter(({ vote }) => vote === null).length,
    },
    agreement: voted.reduce((sum, { agreement }) => sum + agreement, 0) / Math.max(1, voted.length),
    fleiss_kappa: fleissKappa(perSample.map(({ system1, system2 }) => [system1, system2])),
    pairwise: pairwiseAgreement(samples.map(({ votes }) => votes), teachers),
  };
}
