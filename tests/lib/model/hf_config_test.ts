import { assert, assertEquals } from "@std/assert";
import { InvalidFile } from "../../../lib/errors.ts";
import { parseHfConfig } from "../../../lib/model/hf_config.ts";
import { assertThrows } from "../../asserts.ts";
import { hfConfigJson, tinyConfig } from "./tiny_model.ts";

const parse = (
  change: Record<string, unknown>,
  generation: Record<string, unknown> | null = null,
) => parseHfConfig({ ...hfConfigJson(tinyConfig), ...change }, generation, "folder");

Deno.test("hf config: Transformers 4 and 5 spell RoPE differently", () => {
  const llama3 = {
    factor: 8,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 64,
  };
  const old = parse({ rope_theta: 500, rope_scaling: { rope_type: "llama3", ...llama3 } });
  const rope_parameters = { rope_type: "llama3", rope_theta: 500, ...llama3 };
  const now = parse({ rope_theta: undefined, rope_parameters });
  assertEquals(now, old);
  assertEquals(old.ropeScaling, {
    type: "llama3",
    factor: 8,
    lowFreqFactor: 1,
    highFreqFactor: 4,
    originalMaxPositions: 64,
  });
  assertEquals(old.ropeTheta, 500);
  const linear = parse({ rope_scaling: { type: "linear", factor: 2 } });
  assertEquals(linear.ropeScaling, { type: "linear", factor: 2 });
  const golden = (name: string) =>
    JSON.parse(
      Deno.readTextFileSync(
        new URL(`../../golden/llama_gqa_tied/model/${name}`, import.meta.url),
      ),
    );
  assertEquals(
    parseHfConfig(golden("config_v4.json"), null, "v4"),
    parseHfConfig(golden("config.json"), null, "v5"),
  );
});

Deno.test("hf config: defaults", () => {
  assertEquals(parse({ head_dim: null, num_key_value_heads: undefined }).headSize, 4);
  assertEquals(parse({ num_key_value_heads: undefined }).kvHeads, 2);
  assertEquals(parse({ architectures: ["Qwen3ForCausalLM"], head_dim: undefined }).headSize, 128);
  assertEquals(parse({ architectures: undefined, model_type: "qwen2" }).qkvBias, true);
  assertEquals(parse({ rope_theta: undefined }).ropeTheta, 10000);
  // A window that is not in use is no window.
  parse({ sliding_window: 4096, use_sliding_window: false, layer_types: ["full_attention"] });
});

Deno.test("hf config: the generation config's ends come first", () => {
  assertEquals(parse({ eos_token_id: [3, 5] }, { eos_token_id: [7, 3] }).eosTokens, [7, 3, 5]);
  assertEquals(parse({ eos_token_id: null }, null).eosTokens, []);
});

Deno.test("hf config: sizes that the kernels do not compute are refused by name", () => {
  const refused = (change: Record<string, unknown>, ...words: string[]) =>
    assertThrows(() => parse(change), (error: Error) => {
      assert(error instanceof InvalidFile, `${error.name}: ${error.message}`);
      for (const word of words) assert(error.message.includes(word), `${word}: ${error.message}`);
      return true;
    });
  refused({ intermediate_size: 150 }, "intermediate size is 150", "multiples of 4");
  refused({ hidden_size: 66 }, "hidden size is 66", "multiples of 4");
  refused({ head_dim: 18 }, "head size is 18", "multiples of 4");
  // A vocabulary of any size is padded.
  parse({ vocab_size: 263, eos_token_id: 262 });
  refused({ hidden_size: 2 ** 30 }, "hidden size");
  refused({ intermediate_size: 2 ** 40 }, "intermediate size");
  refused({ head_dim: 2 ** 20 }, "head size");
  refused({ num_attention_heads: 2 ** 20, num_key_value_heads: 1 }, "number of heads");
  refused({ vocab_size: 2 ** 31 }, "vocabulary");
  refused({ max_position_embeddings: 2 ** 40 }, "positions");
  for (const value of [1e999, -1, 0, 1e-300, "1", true, [], {}, NaN]) {
    refused({ rms_norm_eps: value }, "rms_norm_eps");
    refused({ rope_theta: value }, "rope_theta");
    refused({ hidden_size: value }, "hidden_size");
    refused({ num_hidden_layers: value }, "num_hidden_layers");
  }
  refused({ hidden_size: 8.5 }, "hidden_size");
});

Deno.test("hf config: names of Object.prototype are names like any other", () => {
  const text = '{"__proto__": {"hidden_size": 9}, "constructor": 1, "hasOwnProperty": null}';
  assertEquals(parse(JSON.parse(text)), parse({}));
  for (const name of ["constructor", "__proto__", "toString"]) {
    assertThrows(() => parse({ architectures: [name] }), InvalidFile);
    assertThrows(() => parse({ rope_scaling: { type: name, factor: 1 } }), InvalidFile);
  }
});
