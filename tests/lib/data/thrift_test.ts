import { assert, assertEquals } from "@std/assert";
import { deserializeTCompactProtocol } from "hyparquet/src/thrift.js";
import { MemoryBudget } from "../../../lib/data/memory_budget.ts";
import { structEnd } from "../../../lib/data/thrift.ts";
import { assertThrows } from "../../asserts.ts";

const end = (bytes: Uint8Array, limitBytes = 2 ** 24) =>
  structEnd(bytes, 0, new MemoryBudget(limitBytes, () => new Error("too much")));

Deno.test("thrift: a footer ends where hyparquet's parser ends", async () => {
  let footers = 0;
  for await (const { name } of Deno.readDir(new URL(".", import.meta.url))) {
    if (!name.endsWith(".parquet")) continue;
    const bytes = await Deno.readFile(new URL(name, import.meta.url));
    const length = new DataView(bytes.buffer).getUint32(bytes.length - 8, true);
    const footer = bytes.slice(bytes.length - 8 - length);
    const reader = { view: new DataView(footer.buffer), offset: 0 };
    deserializeTCompactProtocol(reader);
    assertEquals([name, end(footer)], [name, reader.offset]);
    footers++;
  }
  assert(footers > 5);
});

for (
  const [name, bytes, message] of [
    ["nothing", [], /does not end/],
    ["a text past the end", [0x18, 5, 97, 0], /does not end/],
    // hyparquet makes room for the list first.
    ["a list of billions", [0x19, 0xf5, 255, 255, 255, 255, 7, 0], /list of 2147483647 elements/],
    ["a number without an end", [0x16, ...new Array(11).fill(255), 0], /without an end/],
    ["structs in structs", [...new Array(40).fill(0x1c), ...new Array(41).fill(0)], /too deep/],
    ["a set", [0x1a, 0], /type 10/],
    ["a field without a type", [0x10, 0], /without a type/],
  ] as const
) {
  Deno.test(`thrift: a struct is refused: ${name}`, () => {
    assertThrows(() => end(Uint8Array.from(bytes)), message);
  });
}

Deno.test("thrift: many small members are spent before they are made", () => {
  // A list of a million structs without fields, a byte each.
  const bytes = new Uint8Array(1_000_010);
  bytes.set([0x19, 0xfc, 0xc0, 0x84, 0x3d]);
  assertThrows(() => end(bytes), /too much/);
  assert(end(bytes, 2 ** 30) > 1_000_000);
});
