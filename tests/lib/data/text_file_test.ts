import { assert, assertEquals } from "@std/assert";
import { textPieces } from "../../../lib/data/text_file.ts";
import { InvalidFile } from "../../../lib/errors.ts";
import { assertRejects } from "../../asserts.ts";

async function textOf(bytes: Uint8Array): Promise<string> {
  const path = await Deno.makeTempFile();
  try {
    await Deno.writeFile(path, bytes);
    let text = "";
    for await (const piece of textPieces(path, (what) => new InvalidFile(what))) text += piece;
    return text;
  } finally {
    await Deno.remove(path);
  }
}

const encode = (text: string) => new TextEncoder().encode(text);

Deno.test("text_file: characters of every length at every place of a piece's end", async () => {
  for (let shift = 0; shift < 12; shift++) {
    const text = "a".repeat(shift) + "é€😀z\n".repeat(60_000);
    assertEquals(await textOf(encode(text)) === text, true);
  }
});

Deno.test("text_file: a byte order mark is dropped at the start and kept elsewhere", async () => {
  assertEquals(await textOf(encode("\ufeffa\ufeff")), "a\ufeff");
  const second = "a".repeat(2 ** 18) + "\ufeffb";
  assert(await textOf(encode(second)) === second);
  assertEquals(await textOf(encode("\ufeff")), "");
});

for (
  const [name, bytes, line] of [
    ["in the first line", [0xff, 0xfe], 1],
    ["after two lines", [0x61, 10, 0x62, 10, 0x61, 0xc3, 0x28], 3],
    ["a character cut off at the end", [10, 0xe2, 0x82], 2],
    ["an overlong character", [0xc0, 0xaf], 1],
    ["half of a surrogate pair", [10, 10, 0xed, 0xa0, 0x80, 10], 3],
    ["far behind", [...new Uint8Array(2 ** 19).fill(10), 0x80], 2 ** 19 + 1],
  ] as const
) {
  Deno.test(`text_file: bytes that are not UTF-8 are refused by their line: ${name}`, async () => {
    await assertRejects(
      () => textOf(Uint8Array.from(bytes)),
      (error) =>
        error instanceof InvalidFile &&
        error.message === `line ${line} is not UTF-8 text; save the file as UTF-8`,
    );
  });
}
