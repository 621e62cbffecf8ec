// The server as a whole on the real engine and the embedded models: every step of the method through
// the API, and what it leaves behind read from the files. `t.step`s of one test share one Worker.

import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { countMoves } from "../demo/verify.ts";
import { openSafetensors } from "../lib/model/safetensors.ts";

import {
  adapterFolder,
  chat,
  download,
  type Json,
  labelledSamples,
  partitionPath,
  quickGrpo,
  quickSft,
  type RealServer,
  realServer,
} from "./real_server.ts";

const model = "lorapar-tiny";
/** Their names are those of members that every object has. */
const teachers = ["constructor", "__proto__", "toString"].map((name, i) => ({
  name,
  model: `lorapar-teacher-${"abc"[i]}`,
}));
const samples = labelledSamples(24);
const lora = { r: 4, lora_alpha: 16 };

const sftMetrics = ["loss", "mean_token_accuracy", "grad_norm", "learning_rate", "tokens_per_s"];
const grpoMetrics = [
  "loss",
  "clip_fraction",
  "clip_ratio/region_mean",
  "entropy",
  "grad_norm",
  "learning_rate",
  "reward",
  "reward_std",
  "frac_reward_zero_std",
  "completions/mean_length",
  "completions/min_length",
  "completions/max_length",
  "completions/clipped_ratio",
  "generation_tokens_per_s",
  "training_tokens_per_s",
  ...["math_answer", "integer", "strict_format", "soft_format", "xml_count"].flatMap((name) => [
    `rewards/${name}/mean`,
    `rewards/${name}/std`,
  ]),
];

/** The adapter's weights as bytes, to compare two trainings bit by bit. */
async function weightBytes(server: RealServer, id: string): Promise<Uint8Array> {
  return await Deno.readFile(`${await adapterFolder(server, id)}/adapter_model.safetensors`);
}

async function movesOf(server: RealServer, { adapter, partition }: Json) {
  return countMoves(
    `${await adapterFolder(server, adapter)}/adapter_model.safetensors`,
    await partitionPath(server, partition),
  );
}

/** Whether two arrays of bytes are equal, without a diff of a megabyte when they are not. */
function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

Deno.test("the method through the API", async (t) => {
  await using server = await realServer();
  const file = await server.upload(samples);
  let partition = "";
  let trained: Json;
  const both = () => ({ model, file, partition, phases: [quickSft, quickGrpo], seed: 1 });

  await t.step("three teachers' votes agree with the truth", async () => {
    const unlabelled = samples.map(({ question, answer }) => ({
      question,
      answer,
      ["__proto__"]: "kept",
    }));
    const result = await server.run("/v1/classify", {
      file: await server.upload(unlabelled),
      target_model: model,
      teachers,
    });
    const text = new TextDecoder().decode(
      await download(server, `/v1/files/${result.file}/content`),
    );
    const records: Json[] = text.trim().split("\n").map((line) => JSON.parse(line));
    assertEquals(records.map(({ question }) => question), samples.map(({ question }) => question));
    const right = records.filter(({ system }, i) => system === samples[i].system).length;
    assert(right / samples.length > 0.8, `${right} of ${samples.length} are right`);
    for (const record of records) {
      assertEquals(Object.entries(record)[2], ["__proto__", "kept"]);
      const { votes } = record;
      assertEquals(votes.map(({ teacher }: Json) => teacher), teachers.map(({ name }) => name));
      assert(votes.every(({ reply }: Json) => typeof reply === "string"));
    }
    const { system1, system2, undecided } = result.counts;
    assertStrictEquals(system1 + system2 + undecided, samples.length);
    assertStrictEquals(result.pairwise.length, 3);
  });

  await t.step("partition, and the same theta again without a backward", async () => {
    ({ partition } = await server.run("/v1/partition", {
      model,
      file,
      lora,
      samples_per_system: 6,
      theta: 0.8,
    }));
    const [status, report] = await server.get(`/v1/partitions/${partition}`);
    assertStrictEquals(status, 200);
    const { counts, elements, by_tensor } = report;
    const total: number[] = Object.values(counts);
    assertStrictEquals(total.reduce((a, b) => a + b), elements);
    assert(total.every((count) => count > 0), JSON.stringify(counts));
    assertStrictEquals(by_tensor.length, 6 * 6 * 2);
    const again = async (theta: number) => {
      const path = `/v1/partitions/${partition}/rethreshold`;
      const [status, row] = await server.post(path, { theta, alpha: 1, beta: 1 });
      assertStrictEquals(status, 200, JSON.stringify(row));
      return row;
    };
    const first = await download(server, `/v1/partitions/${partition}/download`);
    const same = await again(0.8);
    assert(sameBytes(first, await download(server, `/v1/partitions/${same.id}/download`)));
    assertEquals(same.by_tensor, by_tensor);
    const less = await again(0.5);
    assert(less.counts.inactive > counts.inactive);
  });

  await t.step("dry run: a plan, and nothing is left of it", async () => {
    const [status, plan] = await server.post("/v1/train?dry_run=true", both());
    assertStrictEquals(status, 200);
    const [, { active, elements }] = await server.get(`/v1/partitions/${partition}`);
    assertEquals(plan.elements, {
      total: elements,
      active: [{ kind: "sft", elements: active.phase1 }, { kind: "grpo", elements: active.phase2 }],
    });
    assertEquals(plan.phases, [
      { kind: "sft", samples: 12, steps: 2 },
      { kind: "grpo", samples: 12, steps: 2 },
    ]);
    const { total, available: _, ...kinds } = plan.memory;
    assertStrictEquals(Object.values<number>(kinds).reduce((a, b) => a + b), total);
    assert(plan.fits);
    const [, jobs] = await server.get("/v1/jobs");
    assert(jobs.data.every(({ kind }: Json) => kind !== "train"));
  });

  await t.step("both phases: only active elements move", async () => {
    trained = await server.run("/v1/train", { ...both(), suffix: "first" });
    assertStrictEquals(trained.model, "lorapar-tiny:first");
    assertStrictEquals(trained.partition, partition);
    assertStrictEquals(trained.inactive_elements_changed, 0);
    assertEquals(trained.phases.map(({ kind, steps }: Json) => [kind, steps]), [
      ["sft", 2],
      ["grpo", 2],
    ]);
    const moves = await movesOf(server, trained);
    assertStrictEquals(moves.inactiveChanged, 0);
    assert(moves.inactive > 0 && moves.activeChanged > 0.9 * moves.active, JSON.stringify(moves));
  });

  await t.step("metrics of every step, rollouts with their rewards", async () => {
    const [, jobs] = await server.get("/v1/jobs?limit=1");
    const { id, kind } = jobs.data[0];
    assertStrictEquals(kind, "train");
    const [, metrics] = await server.get(`/v1/jobs/${id}/metrics`);
    const steps = metrics.data.map(({ phase, step }: Json) => [phase, step]);
    assertEquals(steps, [["sft", 1], ["sft", 2], ["grpo", 1], ["grpo", 2]]);
    for (const row of metrics.data) {
      for (const name of row.phase === "sft" ? sftMetrics : grpoMetrics) {
        assert(Number.isFinite(row[name]), `${row.phase} ${row.step}: ${name} is ${row[name]}`);
      }
    }
    const csv = await server.request(`/v1/jobs/${id}/metrics`, { headers: { accept: "text/csv" } });
    assertStrictEquals((await csv.text()).trim().split("\n").length, 1 + steps.length);
    const [, rollouts] = await server.get(`/v1/jobs/${id}/samples`);
    assertStrictEquals(rollouts.data.length, 2 * quickGrpo.per_device_train_batch_size);
    for (const { completion, reward, rewards, advantage, tokens } of rollouts.data) {
      assertStrictEquals(typeof completion, "string");
      assertEquals(Object.keys(rewards).length, 5);
      const sum = Object.values<number>(rewards).reduce((a, b) => a + b);
      assert(Math.abs(sum - reward) < 1e-9 && Number.isFinite(advantage));
      assert(tokens >= 1 && tokens <= quickGrpo.max_completion_length);
    }
  });

  await t.step(
    "the same seed gives the same bits, dropout or not; another seed others",
    async () => {
      const first = await weightBytes(server, trained.adapter);
      const again = await server.run("/v1/train", both());
      assert(sameBytes(first, await weightBytes(server, again.adapter)), "seed 1 twice");
      const other = await server.run("/v1/train", { ...both(), seed: 2 });
      assert(!sameBytes(first, await weightBytes(server, other.adapter)), "seeds 1 and 2");
      const sft = { ...both(), phases: [{ ...quickSft, lora_dropout: 0.3 }] };
      const [one, two] = [await server.run("/v1/train", sft), await server.run("/v1/train", sft)];
      const dropped = await weightBytes(server, one.adapter);
      assert(sameBytes(dropped, await weightBytes(server, two.adapter)), "dropout twice");
      const grpo = (lora_dropout: number) => ({
        ...both(),
        phases: [{ ...quickGrpo, rewards: [{ type: "length", target: 9 }], lora_dropout }],
      });
      const [with1, with2] = [
        await server.run("/v1/train", grpo(0.3)),
        await server.run("/v1/train", grpo(0.3)),
      ];
      const rl = await weightBytes(server, with1.adapter);
      assert(sameBytes(rl, await weightBytes(server, with2.adapter)), "GRPO dropout twice");
      const rlPlain = await weightBytes(
        server,
        (await server.run("/v1/train", grpo(0))).adapter,
      );
      assert(!sameBytes(rl, rlPlain), "GRPO dropout and none");
      const plain = { ...sft, phases: [{ ...quickSft, lora_dropout: 0 }] };
      const without = await weightBytes(server, (await server.run("/v1/train", plain)).adapter);
      assert(!sameBytes(dropped, without), "dropout and none");
    },
  );

  await t.step("chat and evaluate with the trained model", async () => {
    const { question } = samples[0];
    const choice = await chat(server, trained.model, question);
    assert(choice.message.content.length > 0);
    const response = await server.request("/v1/chat/completions", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({
        model: trained.model,
        messages: [{ role: "user", content: question }],
        temperature: 0,
        max_tokens: 12,
        stream: true,
      }),
    });
    const events = (await response.text()).trim().split("\n\n").map((event) => event.slice(6));
    assertStrictEquals(events.pop(), "[DONE]");
    const deltas = events.map((event) => JSON.parse(event).choices[0]);
    assertStrictEquals(
      deltas.map(({ delta }) => delta.content ?? "").join(""),
      choice.message.content,
    );
    assertStrictEquals(deltas.at(-1).finish_reason, choice.finish_reason);

    const result = await server.run("/v1/evaluate", {
      model: trained.model,
      file,
      grader: { type: "string_check" },
      max_tokens: 12,
      limit: 6,
    });
    assertStrictEquals(result.count, 6);
    assertStrictEquals(result.accuracy, result.correct / 6);
    const answers = new TextDecoder().decode(
      await download(server, `/v1/files/${result.file}/content`),
    ).trim().split("\n").map((line) => JSON.parse(line));
    assertStrictEquals(answers.filter(({ correct }) => correct).length, result.correct);
    // One prompt alone and the same among others: batching must not change a greedy answer.
    assertStrictEquals(answers[0].completion, choice.message.content);
  });

  await t.step("training goes on from a trained model, by its partition", async () => {
    const next = await server.run("/v1/train", {
      ...both(),
      model: trained.model,
      phases: [quickGrpo],
    });
    assertStrictEquals(next.inactive_elements_changed, 0);
    const moves = await movesOf(server, next);
    assertStrictEquals(moves.inactiveChanged, 0);
    const folder = await adapterFolder(server, trained.adapter);
    const config = JSON.parse(await Deno.readTextFile(`${folder}/adapter_config.json`));
    // A folder that PEFT can open; only this machine reaches the server.
    assert(Deno.statSync(`${config.base_model_name_or_path}/config.json`).isFile);
    const before = openSafetensors(`${folder}/adapter_model.safetensors`);
    const after = openSafetensors(
      `${await adapterFolder(server, next.adapter)}/adapter_model.safetensors`,
    );
    const regions = openSafetensors(await partitionPath(server, partition));
    for (const name of before.tensors.keys()) {
      const short = name.slice("base_model.model.".length);
      const { bytes: region } = regions.read(`${short}.region`);
      const [from, to] = [before.readFloat32(name).data, after.readFloat32(name).data];
      // System 1's own elements are phase 1's to move, so here they keep phase 1's values.
      assert(from.every((value, i) => (region[i] & 2) !== 0 || value === to[i]), name);
    }
    for (const one of [before, after, regions]) one.close();
  });

  await t.step("reinforcement before fine-tuning, and a partition made by the job", async () => {
    const result = await server.run("/v1/train", {
      ...both(),
      partition: { lora, samples_per_system: 4 },
      phases: [quickGrpo, quickSft],
    });
    assertEquals(result.phases.map(({ kind }: Json) => kind), ["grpo", "sft"]);
    assert(result.partition !== partition);
    const moves = await movesOf(server, result);
    assert(moves.inactiveChanged === 0 && moves.activeChanged > 0, JSON.stringify(moves));
  });

  await t.step("without a partition every element moves", async () => {
    const all = { data: "all", activate: "all" };
    const train = (learning_rate: number) =>
      server.run("/v1/train", {
        ...both(),
        partition: null,
        lora,
        phases: [{ ...quickSft, ...all, learning_rate }],
      });
    const [still, moved] = [await train(0), await train(1e-3)];
    const open = async (id: string) =>
      openSafetensors(`${await adapterFolder(server, id)}/adapter_model.safetensors`);
    const [from, to] = [await open(still.adapter), await open(moved.adapter)];
    for (const name of from.tensors.keys()) {
      const after = to.readFloat32(name).data;
      const same = from.readFloat32(name).data.filter((value, i) => value === after[i]).length;
      assert(same < 0.01 * after.length, `${same} of ${after.length} of ${name} did not move`);
    }
    from.close();
    to.close();
  });

  await t.step("the validation file's loss is the training loss of the same samples", async () => {
    const train = async (learning_rate: number) => {
      const { phases } = await server.run("/v1/train", {
        ...both(),
        validation_file: file,
        phases: [{
          ...quickSft,
          learning_rate,
          lora_dropout: 0,
          max_steps: 1,
          per_device_train_batch_size: 12,
        }],
      });
      return phases[0].metrics;
    };
    const still = await train(0);
    assert(Math.abs(still.eval_loss - still.loss) < 1e-6 * still.loss, JSON.stringify(still));
    const moved = await train(1e-3);
    assert(moved.eval_loss < still.eval_loss, JSON.stringify(moved));
    const [, jobs] = await server.get("/v1/jobs?limit=1");
    const [, metrics] = await server.get(`/v1/jobs/${jobs.data[0].id}/metrics`);
    assertEquals(metrics.data.map(({ phase }: Json) => phase), ["sft", "validation"]);
  });

  await t.step("a batch is learnt by heart", async () => {
    const four = await server.upload(samples.slice(0, 4));
    const { phases } = await server.run("/v1/train", {
      model,
      file: four,
      partition: null,
      lora: { r: 8 },
      phases: [{
        ...quickSft,
        data: "all",
        activate: "all",
        learning_rate: 5e-3,
        lora_dropout: 0,
        max_steps: 40,
      }],
    });
    assert(phases[0].metrics.loss < 0.1, `loss ${phases[0].metrics.loss}`);
    assertStrictEquals(phases[0].metrics.mean_token_accuracy, 1);
  });
});
