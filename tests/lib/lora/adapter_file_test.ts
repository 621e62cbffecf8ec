import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { InvalidFile } from "../../../lib/errors.ts";
import { readAdapter, readTrainableAdapter, writeAdapter } from "../../../lib/lora/adapter_file.ts";
import { loraLayout, loraScale } from "../../../lib/lora/layout.ts";
import { assertThrows } from "../../asserts.ts";
import { inFolder, tinyConfig } from "../model/tiny_model.ts";

const adapterOf = (r: number) => {
  const target_modules = ["q_proj", "down_proj"] as const;
  const settings = { r, lora_alpha: 16, use_rslora: false, target_modules };
  const layout = loraLayout(tinyConfig, settings);
  const phi = Float32Array.from({ length: layout.elements }, (_, i) => (i % 7 - 3) / 8);
  return { settings, layout, phi, residual: null };
};

const digest = "sha256-samples:" + "a".repeat(64);
const named = { name: "base", digest };
const base = { config: tinyConfig, digest: () => digest };

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
    await writeAdapter(folder, named, { settings, layout, phi, residual }, 0);
    assertEquals(readAdapter(folder, base).settings.r, 8);
    const read = readTrainableAdapter(folder, base);
    assertEquals([read.phi, read.residual, read.settings.r], [phi, residual, 4]);
  }));

Deno.test("adapter: ranks that the kernels do not compute and notes that lie are refused", () =>
  inFolder(async (folder) => {
    await writeAdapter(folder, named, adapterOf(6), 0);
    refused(() => readAdapter(folder, base), "rank r is 6", "multiples of 4");
    await writeAdapter(folder, named, adapterOf(8), 0);
    assertEquals(readTrainableAdapter(folder, base).phi, adapterOf(8).phi);
    const note = (text: string) => Deno.writeTextFileSync(`${folder}/lorapar.json`, text);
    note('{"pissa_doubled_rank": true, "r": 8, "lora_alpha": 16}');
    refused(() => readTrainableAdapter(folder, base), "rank 8 was doubled", "has 8");
    for (const text of ["{", "[]", "{}", '{"pissa_doubled_rank": 1, "r": 8, "lora_alpha": 1}']) {
      note(text);
      refused(() => readTrainableAdapter(folder, base), "lorapar.json");
    }
    Deno.removeSync(`${folder}/lorapar.json`);
    assertEquals(readTrainableAdapter(folder, base).settings.r, 8);
  }));

Deno.test("an adapter is refused on other weights than it was trained on", () =>
  inFolder(async (folder) => {
    const { phi, settings } = adapterOf(4);
    await writeAdapter(folder, named, adapterOf(4), 0);
    const other = { config: tinyConfig, digest: () => "sha256-samples:" + "b".repeat(64) };
    for (const read of [readAdapter, readTrainableAdapter]) {
      const found = read(folder, base);
      assertEquals(found.phi, phi);
      assertStrictEquals(found.scale, loraScale(settings));
      assertThrows(
        () => read(folder, other),
        (error: InvalidFile) => error instanceof InvalidFile && error.code === "base_changed",
      );
    }
    // Adapters of older versions record no digest, those of other programs have no lorapar.json.
    const note = JSON.parse(await Deno.readTextFile(`${folder}/lorapar.json`));
    assertStrictEquals(note.base_digest, digest);
    delete note.base_digest;
    await Deno.writeTextFile(`${folder}/lorapar.json`, JSON.stringify(note));
    assertEquals(readAdapter(folder, other).phi, phi);
    await Deno.remove(`${folder}/lorapar.json`);
    assertEquals(readTrainableAdapter(folder, other).phi, phi);
  }));
