import { parseHfConfig } from "../../../lib/model/hf_config.ts";
import { assertEquals } from "../../asserts.ts";
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
