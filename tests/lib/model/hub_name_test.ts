import { assertStrictEquals } from "@std/assert";
import type { GgufValue } from "../../../lib/model/gguf.ts";
import { exportedBaseName, hubNameOfFolder, hubNameOfGguf } from "../../../lib/model/hub_name.ts";
import { openModel } from "../../../lib/model/open.ts";
import { ggufBytes, ggufFields, ggufTensors, inFolder, writeHfFolder } from "./tiny_model.ts";

Deno.test("hub name: of a folder in the hub's cache, through links too", () =>
  inFolder(async (folder) => {
    const snapshot = `${folder}/models--org--some.name-2/snapshots/${"0123456789".repeat(4)}`;
    await writeHfFolder(snapshot);
    await Deno.symlink(snapshot, `${folder}/link`);
    await writeHfFolder(`${folder}/plain`);
    assertStrictEquals(hubNameOfFolder(snapshot), "org/some.name-2");
    assertStrictEquals(hubNameOfFolder(`${folder}/link`), "org/some.name-2");
    assertStrictEquals(hubNameOfFolder(`${folder}/plain`), null);
    assertStrictEquals(hubNameOfFolder(`${folder}/nowhere`), null);
    // _name_or_path is what the model was tuned from as often as not.
    const json = JSON.parse(await Deno.readTextFile(`${folder}/plain/config.json`));
    json._name_or_path = "org/parent";
    await Deno.writeTextFile(`${folder}/plain/config.json`, JSON.stringify(json));
    for (const [path, name] of [["link", "org/some.name-2"], ["plain", null]]) {
      const source = await openModel(`${folder}/${path}`);
      assertStrictEquals(source.hubName, name);
      source.close();
    }
  }));

Deno.test("hub name: of a GGUF file, from what it was converted from", () =>
  inFolder(async (folder) => {
    const of = (fields: Record<string, string>) =>
      hubNameOfGguf(new Map<string, GgufValue>(Object.entries(fields)));
    assertStrictEquals(of({}), null);
    assertStrictEquals(of({ "general.source.huggingface.repository": "org/name" }), "org/name");
    assertStrictEquals(
      of({ "general.source.repo_url": "https://huggingface.co/org/name" }),
      "org/name",
    );
    assertStrictEquals(
      of({ "general.source.url": "https://huggingface.co/org/name/" }),
      "org/name",
    );
    assertStrictEquals(of({ "general.source.url": "https://example.org/org/name" }), null);
    assertStrictEquals(of({ "general.source.url": "https://huggingface.co/org" }), null);
    assertStrictEquals(of({ "general.source.huggingface.repository": "../../etc/passwd" }), null);
    // These name the model that it was tuned from.
    assertStrictEquals(
      of({ "general.base_model.0.repo_url": "https://huggingface.co/org/parent" }),
      null,
    );
    const path = `${folder}/a.gguf`;
    const source = { "general.source.repo_url": { string: "https://huggingface.co/org/name" } };
    await Deno.writeFile(path, ggufBytes({ ...ggufFields(), ...source }, ggufTensors()));
    const model = await openModel(path);
    assertStrictEquals(model.hubName, "org/name");
    model.close();
  }));

Deno.test("hub name: an adapter names its base by what was given, by the hub, or by its folder", () =>
  inFolder(async (folder) => {
    const local = { name: null, folderMayBeTold: true };
    const open = { name: null, folderMayBeTold: false };
    assertStrictEquals(
      exportedBaseName(folder, "org/name", { ...local, name: "mine/base" }),
      "mine/base",
    );
    assertStrictEquals(exportedBaseName(folder, "org/name", local), "org/name");
    assertStrictEquals(exportedBaseName(folder, null, local), folder);
    assertStrictEquals(exportedBaseName(folder, null, open), null);
    await Deno.writeTextFile(`${folder}/a.gguf`, "");
    assertStrictEquals(exportedBaseName(`${folder}/a.gguf`, null, local), null);
  }));
