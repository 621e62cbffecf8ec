// A vocabulary that is no multiple of 4 is padded with rows of zeros. Here every true logit is negative, so a
// padded one would be the largest: it must neither count in the softmax nor be sampled.

import { assert } from "@std/assert";
import { pack } from "../../../lib/data/pack.ts";
import { destroyDecoder, loadDecoder } from "../../../lib/model/decoder.ts";
import { generate } from "../../../lib/model/generate.ts";
import { openModel } from "../../../lib/model/open.ts";
import { pass, releaseBatch, uploadBatch } from "../../../lib/model/pass.ts";
import { assertClose, testGpu } from "../../gpu.ts";
import { inFolder, tinyConfig, tinyTensors, writeHfFolder } from "./tiny_model.ts";

for (const vocabSize of [261, 262, 263]) {
  Deno.test(`a vocabulary of ${vocabSize}: padded rows are neither counted nor sampled`, () =>
    inFolder(async (folder) => {
      const config = { ...tinyConfig, vocabSize, tieEmbeddings: false };
      const C = config.hiddenSize;
      const tensors = tinyTensors(config);
      // Blocks that add nothing leave the embedding, ones, for the head.
      for (const [name, tensor] of tensors) {
        const values = tensor.bytes as Float32Array;
        const isOnes = name === "model.embed_tokens.weight" || name === "model.norm.weight";
        if (name === "lm_head.weight") values.forEach((_, i) => values[i] = -1 - i % 7 / 8);
        else values.fill(isOnes ? 1 : 0);
      }
      await writeHfFolder(folder, config, tensors);
      const head = tensors.get("lm_head.weight")!.bytes as Float32Array;
      const scale = 1 / Math.sqrt(1 + config.rmsNormEps);
      const logits = Array.from(
        { length: vocabSize },
        (_, row) => head.subarray(row * C, (row + 1) * C).reduce((sum, w) => sum + w * scale, 0),
      );
      const logSum = Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit), 0));

      const gpu = await testGpu();
      const source = await openModel(folder);
      const decoder = await loadDecoder(gpu, source);
      source.close();
      const policy = { decoder, adapter: null };
      const tokens = Uint32Array.of(5, 97, 3, vocabSize - 1, 0, 260);
      const batch = uploadBatch(gpu, decoder, pack([{ tokens, promptLength: 1 }]));
      const values = gpu.tensor("values", [batch.M, 4]);
      pass(gpu, policy, { batch, values });
      const rows = await gpu.readFloats(values);
      releaseBatch(gpu, batch);
      const logps = rows.filter((_, i) => i % 4 === 0);
      assertClose(
        logps,
        [...tokens].slice(1).map((token) => logits[token] - logSum),
        1e-10,
        "logps",
      );

      for (const temperature of [0, 1]) {
        const completions = await generate(gpu, policy, {
          prompts: [Uint32Array.of(5, 97)],
          completionsPerPrompt: 8,
          maxNewTokens: 20,
          temperature,
          topK: 0,
          topP: 1,
          minP: 0,
          seed: 1,
          eosTokens: [],
        });
        for (const { tokens } of completions) {
          assert(tokens.length === 20 && tokens.every((token) => token < vocabSize), `${tokens}`);
        }
      }
      gpu.release(values);
      await destroyDecoder(gpu, decoder);
    }));
}
