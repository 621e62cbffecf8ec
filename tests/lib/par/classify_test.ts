import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { readSamples, toRecord } from "../../../lib/data/dataset.ts";
import { Cancelled, InvalidRequest } from "../../../lib/errors.ts";
import {
  classify,
  decide,
  readVote,
  rolePlayPrompt,
  type Vote,
} from "../../../lib/par/classify.ts";
import type { Teacher } from "../../../lib/par/teachers.ts";
import { assertRejects, assertThrows } from "../../asserts.ts";

const settings = {
  target_model: "tiny",
  votes_per_teacher: 1,
  tie: "system2" as const,
  seed: 0,
};
const samples = readSamples(
  ["a", "b", "c"].map((question) => ({ question, answer: question.toUpperCase() })),
);

/** A teacher that answers by the task's letter, a list of replies for each, one after the other. */
function scripted(name: string, replies: Record<string, string[]>, local = false) {
  const asked: { seed: number; letters: string }[] = [];
  const turns: Record<string, number> = {};
  const teacher: Teacher = {
    name,
    local,
    voteAll(prompts, seed, onReply) {
      const letters = prompts.map(([{ content }]) => content.match(/\nTask: (.)\n/)![1]);
      asked.push({ seed, letters: letters.join("") });
      return Promise.resolve(letters.map((letter, index) => {
        const turn = turns[letter] ?? 0;
        turns[letter] = turn + 1;
        const reply = replies[letter][Math.min(turn, replies[letter].length - 1)];
        onReply?.(index, reply);
        return reply;
      }));
    },
  };
  return { teacher, asked };
}

const always = (name: string, reply: string, local = false) =>
  scripted(name, { a: [reply], b: [reply], c: [reply] }, local).teacher;

Deno.test("classify: the prompt, to the letter", () => {
  const [sample] = readSamples([{ question: "What is 6*12?", answer: "72" }]);
  assertEquals(rolePlayPrompt("LLaMA-2-7B", sample, 0), [{
    role: "user",
    content: [
      "Act as LLaMA-2-7B. You are given a task and its answer. Decide how you would solve it.",
      "System1: immediate recall, straightforward reading or simple inference; no multi-step reasoning.",
      "System2: multi-step logical reasoning, chaining of information, complex inference.",
      "Task: What is 6*12?",
      "Answer: 72",
      "Reply with one word, System1 or System2.",
    ].join("\n"),
  }]);
  assertThrows(
    () => rolePlayPrompt("x", readSamples([{ question: "Why?" }])[0], 4),
    (error) =>
      error instanceof InvalidRequest &&
      /sample 5 \("Why\?"\): it has no answer/.test(error.message),
  );
});

for (
  const [reply, wanted] of [
    ["System1", "system1"],
    ["system 2.", "system2"],
    ["**System-2**", "system2"],
    ["SYSTEM_1\n", "system1"],
    ["S2", "system2"],
    ["System two", "system2"],
    ["I'd say it's System 1: simple recall. So System1.", "system1"],
    ["System2. It is more than System1 can do.", "system2"],
    ["It takes chaining, so it isn't System1; it is System2.", "system2"],
    ["I want System2", "system2"],
    ["System1 is for recall, System2 for chains.\n**System2**\n", "system2"],
    ["One may think of System1 and System2.\nAnswer: System1.", "system1"],
    ["<think>System1? No, System2? Hm.</think>System1", "system1"],
    ["<think>System1 for sure", null],
    ["System1 or System2", null],
    ["System1 and System2 are both used.", null],
    ["not System1", null],
    ["The system has 12 parts", null],
    ["System12", null],
    ["72", null],
    ["", null],
  ] as const
) {
  Deno.test(`classify: ${JSON.stringify(reply)} is read as ${wanted}`, () => {
    assertEquals(readVote(reply), wanted);
  });
}

Deno.test("classify: the majority of three teachers, every reply kept", async () => {
  const progress: number[] = [];
  const result = await classify(
    samples,
    [
      scripted("x", { a: ["System1"], b: ["System1"], c: ["System2"] }).teacher,
      scripted("y", { a: ["System1!"], b: ["System2"], c: ["System2"] }).teacher,
      scripted("z", { a: ["System2"], b: ["System2"], c: ["System2"] }, true).teacher,
    ],
    settings,
    {
      onProgress: (votes, total) => {
        assertEquals(total, 9);
        progress.push(votes);
      },
    },
  );
  assertEquals(result.samples.map(({ system }) => system), ["system1", "system2", "system2"]);
  assertEquals(result.samples[0], {
    system: "system1",
    agreement: 2 / 3,
    votes: [
      { teacher: "x", vote: "system1", reply: "System1" },
      { teacher: "y", vote: "system1", reply: "System1!" },
      { teacher: "z", vote: "system2", reply: "System2" },
    ],
  });
  assertEquals(result.counts, { system1: 1, system2: 2, undecided: 0, abstentions: 0 });
  assert(Math.abs(result.agreement - 7 / 9) < 1e-12);
  assertEquals(result.pairwise, [
    { teachers: ["x", "y"], agreement: 2 / 3 },
    { teachers: ["x", "z"], agreement: 1 / 3 },
    { teachers: ["y", "z"], agreement: 2 / 3 },
  ]);
  // P = (1/3 + 1/3 + 1) / 3 = 5/9; 3 and 6 of 9 votes: Pe = 5/9.
  assert(Math.abs(result.fleiss_kappa!) < 1e-12);
  assertEquals(progress, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
});

Deno.test("classify: an unreadable reply is asked for again with another seed, then abstains", async () => {
  const { teacher, asked } = scripted("x", {
    a: ["System1"],
    b: ["hm", "hmm", "System2"],
    c: ["no", "nope", "never", "System1"],
  });
  let progress = 0;
  const result = await classify(samples, [teacher], settings, { onProgress: () => progress++ });
  assertEquals(asked.map(({ letters }) => letters), ["abc", "bc", "bc"]);
  assertEquals(new Set(asked.map(({ seed }) => seed)).size, 3);
  assert(asked.every(({ seed }) => Number.isInteger(seed) && seed >= 0 && seed < 2 ** 31));
  assertEquals(result.samples.map(({ votes: [vote] }) => vote), [
    { teacher: "x", vote: "system1", reply: "System1" },
    { teacher: "x", vote: "system2", reply: "System2", unreadable: ["hm", "hmm"] },
    { teacher: "x", vote: null, reply: "never", unreadable: ["no", "nope"] },
  ]);
  assertEquals(result.samples[2].system, "undecided");
  assertEquals(result.counts, { system1: 1, system2: 1, undecided: 1, abstentions: 1 });
  assertEquals(progress, 3);
  assertEquals([result.agreement, result.fleiss_kappa], [1, null]);
});

Deno.test("classify: teachers and fields named after Object.prototype's members are like others", async () => {
  const names = ["constructor", "__proto__", "toString", "hasOwnProperty"];
  const teachers = names.map((name, i) => always(name, i === 1 ? "System1" : "System2"));
  // As JSON.parse makes it: a field of the record's own.
  const [sample] = readSamples([JSON.parse(
    '{"question": "a", "answer": "A", "__proto__": {"system": "system1"}, "constructor": 1}',
  )]);
  assertEquals([sample.system, sample.answer], [null, "A"]);
  const result = await classify([sample], teachers, settings);
  const [{ system, votes }] = result.samples;
  assertEquals(system, "system2");
  assertEquals(votes.map(({ teacher, vote }) => [teacher, vote]), [
    ["constructor", "system2"],
    ["__proto__", "system1"],
    ["toString", "system2"],
    ["hasOwnProperty", "system2"],
  ]);
  assertEquals(result.pairwise.map(({ teachers }) => teachers.join(" ")), [
    "constructor __proto__",
    "constructor toString",
    "constructor hasOwnProperty",
    "__proto__ toString",
    "__proto__ hasOwnProperty",
    "toString hasOwnProperty",
  ]);
  const line = JSON.parse(JSON.stringify(toRecord(sample, { ...result.samples[0] })));
  assertEquals(Object.keys(line), [
    "question",
    "answer",
    "__proto__",
    "constructor",
    "system",
    "agreement",
    "votes",
  ]);
  await assertRejects(
    () => classify([sample], [teachers[1], teachers[1]], settings),
    InvalidRequest,
  );
});

Deno.test("classify: neighbouring seeds share no request's seed", async () => {
  const seeds = new Set<number>();
  for (let seed = 0; seed < 20; seed++) {
    const unreadable = ["x", "y"].map((name) => scripted(name, { a: ["?"], b: ["?"], c: ["?"] }));
    await classify(samples, unreadable.map(({ teacher }) => teacher), {
      ...settings,
      seed,
      votes_per_teacher: 2,
    });
    for (const { asked } of unreadable) for (const { seed } of asked) seeds.add(seed);
  }
  // 20 seeds, 2 teachers, 2 votes, 3 attempts.
  assertEquals(seeds.size, 20 * 2 * 2 * 3);
});

Deno.test("classify: several votes of a teacher all count, each with its own seed", async () => {
  const { teacher, asked } = scripted("x", {
    a: ["System1", "System2", "System2"],
    b: ["System1"],
    c: ["System1", "System1", "System2"],
  });
  const result = await classify(samples, [teacher], { ...settings, votes_per_teacher: 3 });
  assertEquals(result.samples.map(({ system }) => system), ["system2", "system1", "system1"]);
  assertEquals(new Set(asked.map(({ seed }) => seed)).size, 3);
});

Deno.test("classify: the tie rule", async () => {
  const teachers = [always("x", "System1"), always("y", "System2")];
  const byRule = await Promise.all((["system2", "undecided"] as const).map(async (tie) => {
    const { samples: [first], counts } = await classify(samples, teachers, { ...settings, tie });
    return [first.system, first.agreement, counts.system2, counts.undecided];
  }));
  assertEquals(byRule, [["system2", 0.5, 3, 0], ["undecided", 0.5, 0, 3]]);
});

Deno.test("classify: more votes for a label never take it away", () => {
  const vote = fc.constantFrom("system1" as const, "system2" as const, null);
  const tie = fc.constantFrom("system2" as const, "undecided" as const);
  const votesOf = (votes: (Vote["vote"])[]): Vote[] =>
    votes.map((vote) => ({ teacher: "x", vote, reply: "" }));
  fc.assert(fc.property(fc.array(vote), tie, (votes, tie) => {
    const { system, agreement } = decide(votesOf(votes), tie);
    assertEquals(decide(votesOf(votes.toReversed()), tie).system, system);
    assertEquals(decide(votesOf([...votes, null]), tie).system, system);
    if (system !== "undecided") {
      assertEquals(decide(votesOf([...votes, system]), tie).system, system);
    }
    assert(agreement === 0 || agreement >= 0.5);
    assert(agreement === 0 ? votes.every((vote) => vote === null) : agreement <= 1);
  }));
});

Deno.test("classify: local teachers are asked one after the other", async () => {
  let running = 0, most = 0;
  const slow = (name: string): Teacher => ({
    name,
    local: true,
    async voteAll(prompts, _seed, onReply) {
      most = Math.max(most, ++running);
      await new Promise((resolve) => setTimeout(resolve, 1));
      running--;
      return prompts.map((_, index) => {
        onReply?.(index, "System1");
        return "System1";
      });
    },
  });
  await classify(samples, [slow("x"), slow("y"), slow("z")], settings);
  assertEquals(most, 1);
});

Deno.test("classify: a teacher that fails ends the others with its error", async () => {
  let aborted = false;
  const waiting: Teacher = {
    name: "waiting",
    local: false,
    voteAll: (_prompts, _seed, _onReply, signal) =>
      new Promise((_, reject) =>
        signal!.addEventListener("abort", () => {
          aborted = true;
          reject(new Cancelled("stopped"));
        })
      ),
  };
  const failing: Teacher = {
    name: "failing",
    local: true,
    voteAll: () => Promise.reject(new InvalidRequest("it is down", "teachers[1].model")),
  };
  await assertRejects(() => classify(samples, [waiting, failing], settings), /it is down/);
  assert(aborted);
});

Deno.test("classify: an abort cancels, and two teachers of one name are refused", async () => {
  const stop = new AbortController();
  const stopping: Teacher = {
    ...always("x", "?"),
    voteAll: (prompts) => {
      stop.abort();
      return Promise.resolve(prompts.map(() => "?"));
    },
  };
  await assertRejects(
    () => classify(samples, [stopping], settings, { signal: stop.signal }),
    (error) => error instanceof Cancelled,
  );
  await assertRejects(
    () => classify(samples, [always("x", "System1"), always("x", "System1")], settings),
    (error) => error instanceof InvalidRequest && error.param === "teachers",
  );
});
