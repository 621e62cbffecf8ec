import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { InvalidFile } from "../../../lib/errors.ts";
import {
  fileSize,
  isFile,
  PositionedFile,
  readJsonObject,
  readTextIfPresent,
} from "../../../lib/model/positioned_file.ts";
import { assertThrows } from "../../asserts.ts";
import { inFolder } from "./tiny_model.ts";

const refused = (run: () => unknown, ...words: string[]) =>
  assertThrows(run, (error: Error) => {
    assert(error instanceof InvalidFile, `${error.name}: ${error.message}`);
    for (const word of words) assert(error.message.includes(word), `${word} in: ${error.message}`);
    return true;
  });

Deno.test("files: what is no regular file is refused without being opened", () =>
  inFolder(async (folder) => {
    const fifo = `${folder}/fifo`;
    assert((await new Deno.Command("mkfifo", { args: [fifo] }).output()).success);
    for (const [path, word] of [[fifo, "FIFO"], [folder, "folder"], ["/dev/zero", "device"]]) {
      refused(() => PositionedFile.open(path), path, word);
      refused(() => readTextIfPresent(path), path, word);
      refused(() => readJsonObject(path), path, word);
      assertEquals([isFile(path), fileSize(path)], [false, null]);
    }
    refused(() => PositionedFile.open(`${folder}/nowhere`), "nowhere");
    assertStrictEquals(readTextIfPresent(`${folder}/nowhere`), null);
  }));

Deno.test("files: size, nesting and encoding of small files are bounded", () =>
  inFolder((folder) => {
    const path = `${folder}/a.json`;
    const write = (text: string) => Deno.writeTextFileSync(path, text);
    write('{"a": [1]}');
    assertEquals(readJsonObject(path), { a: [1] });
    refused(() => readJsonObject(path, 9), "10 bytes", "9");
    write(" ".repeat(4 * 2 ** 20) + "{}");
    refused(() => readJsonObject(path), "4194306 bytes");
    write('{"a":'.repeat(100_000) + "1" + "}".repeat(100_000));
    refused(() => readJsonObject(path), "64 deep");
    write("[]");
    refused(() => readJsonObject(path), "object");
    Deno.writeFileSync(path, Uint8Array.of(0x7b, 0xff, 0x7d));
    refused(() => readJsonObject(path), "UTF-8");
  }));
