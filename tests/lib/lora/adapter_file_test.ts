import { InvalidFile } from "../../../lib/errors.ts";
import { readAdapter, readTrainableAdapter, writeAdapter } from "../../../lib/lora/adapter_file.ts";
import { loraLayout } from "../../../lib/lora/layout.ts";
import { assert, assertEquals, assertThrows } from "../../asserts.ts";
import { inFolder, tinyConfig } from "../model/tiny_model.ts";

const adapterOf = (r: number) => {
  const target_modules = ["q_proj", "down_proj"] as const;
  const settings = { r, lora_alpha: 16, use_rslora: false, target_modules };
  const layout = loraLayout(tinyConfig, settings);
  const phi = Float32Array.from({ length: layout.elements }, (_, i) => (i % 7 - 3) / 8);
  return { settings, layout, phi, residual: null };
};

const refused = (run: () => unknown, ...words: string[]) =>
  assertThrows(run, (error: Error) => {
    assert(error instanceof InvalidFile, `${error.name}: ${error.message}`);
    for (const word of words) assert(error.message.includes(word), `${word} in: ${error.message}`);
    return true;
  });

Deno.test("adapter: PiSSA's halves come back from the doubled rank", () =>
  inFolder(async (folder) => {
    const { settings, layout, phi } = adapterOf(4);
    const residual = phi.map((x) => x * 2 + 1);
    await writeAdapter(folder, "base", { settings, layout, phi, residual }, 0);
    assertEquals(readAdapter(folder, tinyConfig).settings.r, 8);
    const read = readTrainableAdapter(folder, tinyConfig);
    assertEquals([read.phi, read.residual, read.settings.r], [phi, residual, 4]);
  }));

Deno.test("adapter: ranks that the kernels do not compute and notes that lie are refused", () =>
  inFolder(async (folder) => {
    await writeAdapter(folder, "base", adapterOf(6), 0);
    refused(() => readAdapter(folder, tinyConfig), "rank r is 6", "multiples of 4");
    await writeAdapter(folder, "base", adapterOf(8), 0);
    assertEquals(readTrainableAdapter(folder, tinyConfig).phi, adapterOf(8).phi);
    const note = (text: string) => Deno.writeTextFileSync(`${folder}/lorapar.json`, text);
    note('{"pissa_doubled_rank": true, "r": 8, "lora_alpha": 16}');
    refused(() => readTrainableAdapter(folder, tinyConfig), "rank 8 was doubled", "has 8");
    for (const text of ["{", "[]", "{}", '{"pissa_doubled_rank": 1, "r": 8, "lora_alpha": 1}']) {
      note(text);
      refused(() => readTrainableAdapter(folder, tinyConfig), "lorapar.json");
    }
    Deno.removeSync(`${folder}/lorapar.json`);
    assertEquals(readTrainableAdapter(folder, tinyConfig).settings.r, 8);
  }));
