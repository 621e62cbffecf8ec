// PiSSA through the API on the real engine: what is exported is the policy that was trained.

import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { pack } from "../lib/data/pack.ts";
import { releaseAdapter, uploadAdapter } from "../lib/lora/adapter.ts";
import { readAdapter, readTrainableAdapter } from "../lib/lora/adapter_file.ts";
import { loadDecoder } from "../lib/model/decoder.ts";
import { openModel } from "../lib/model/open.ts";
import { pass, type Policy, releaseBatch, uploadBatch } from "../lib/model/pass.ts";
import { openSafetensors } from "../lib/model/safetensors.ts";

import { assertClose, nmse, testGpu } from "./gpu.ts";
import {
  adapterFolder,
  chat,
  labelledSamples,
  partitionPath,
  quickSft,
  realServer,
} from "./real_server.ts";

const model = "lorapar-tiny";
const tinyFolder = new URL("../models/tiny", import.meta.url).pathname;
const samples = labelledSamples(24);
const lora = { r: 4, lora_alpha: 16 };

/** Log-probabilities of a few samples' tokens under a policy. */
async function logProbabilities(policy: Policy, tokens: Uint32Array[]): Promise<Float32Array> {
  const gpu = await testGpu();
  const packed = pack(tokens.map((one) => ({ tokens: one, promptLength: 1 })));
  const batch = uploadBatch(gpu, policy.decoder, packed);
  const values = gpu.tensor("test.values", [batch.M, 4]);
  pass(gpu, policy, { batch, values });
  const rows = await gpu.readFloats(values);
  gpu.release(values);
  releaseBatch(gpu, batch);
  return rows.filter((_, i) => i % 4 === 0);
}

/**
 * PiSSA trains B A on the residual base W - B0 A0; the export is a LoRA of rank 2r on W. Both must be
 * the same function, equal to the base where nothing was trained.
 */
Deno.test("pissa: the exported adapter is the trained policy", async () => {
  await using server = await realServer();
  const file = await server.upload(samples);
  const { partition } = await server.run("/v1/partition", {
    model,
    file,
    lora: { ...lora, init: "pissa" },
    samples_per_system: 4,
  });
  const train = (learning_rate: number) =>
    server.run("/v1/train", {
      model,
      file,
      partition,
      phases: [{ ...quickSft, max_steps: 1, learning_rate }],
    });
  const [still, moved] = [await train(0), await train(1e-3)];
  assertStrictEquals(moved.inactive_elements_changed, 0);
  for (const { question } of samples.slice(0, 3)) {
    const [base, unmoved] = [
      await chat(server, model, question),
      await chat(server, still.model, question),
    ];
    assertEquals(unmoved, base);
  }

  const gpu = await testGpu();
  const source = await openModel(tinyFolder);
  const decoder = await loadDecoder(gpu, source);
  const tokens = samples.slice(0, 6).map(({ question, answer }) =>
    Uint32Array.from(source.tokenizer.encode(`${question} ${answer}`))
  );
  const base = await logProbabilities({ decoder, adapter: null }, tokens);
  const start = openSafetensors(await partitionPath(server, partition));
  for (const { adapter: id } of [still, moved]) {
    const folder = await adapterFolder(server, id);
    const exported = readAdapter(folder, source);
    const halves = readTrainableAdapter(folder, source);
    assertEquals([exported.layout.r, halves.layout.r], [2 * lora.r, lora.r]);
    for (const { name, offset, rows, columns } of halves.layout.tensors) {
      const initial = start.readFloat32(`${name}.initial`).data;
      assertEquals(halves.residual!.subarray(offset, offset + rows * columns), initial, name);
    }
    const asTrained = uploadAdapter(gpu, halves.layout, halves.phi, {
      scale: halves.scale,
      residual: halves.residual!,
    });
    const asExported = uploadAdapter(gpu, exported.layout, exported.phi, { scale: exported.scale });
    const one = await logProbabilities({ decoder, adapter: asTrained }, tokens);
    const two = await logProbabilities({ decoder, adapter: asExported }, tokens);
    assertClose(two, one, 1e-9, "the exported adapter's log-probabilities");
    if (id === still.adapter) assertClose(two, base, 1e-9, "the untrained adapter's");
    else assert(nmse(two, base) > 1e-5, "one step changes the policy");
    releaseAdapter(gpu, asTrained);
    releaseAdapter(gpu, asExported);
  }
  start.close();
  source.close();
});
