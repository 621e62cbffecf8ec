import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { InvalidFile } from "../../../lib/errors.ts";
import { openSafetensors, writeSafetensors } from "../../../lib/model/safetensors.ts";
import { assertRejects, assertThrows } from "../../asserts.ts";
import { inFolder } from "./tiny_model.ts";

/** A file with this header text and this many data bytes. */
function fileOf(header: unknown, dataBytes: number): Uint8Array {
  const text = new TextEncoder().encode(
    typeof header === "string" ? header : JSON.stringify(header),
  );
  const file = new Uint8Array(8 + text.length + dataBytes);
  new DataView(file.buffer).setBigUint64(0, BigInt(text.length), true);
  file.set(text, 8);
  return file;
}

const entry = (dtype: string, shape: unknown, data_offsets: unknown) => ({
  a: { dtype, shape, data_offsets },
});

Deno.test("safetensors: what is written is read back, tensor by tensor", () =>
  inFolder(async (folder) => {
    const path = `${folder}/x.safetensors`;
    await writeSafetensors(
      path,
      new Map([
        ["flags", { dtype: "U8", shape: [3], bytes: Uint8Array.of(1, 0, 255) }],
        ["ids", { dtype: "I64", shape: [2], bytes: BigInt64Array.of(-1n, 2n ** 40n) }],
        ["w", { dtype: "F32", shape: [2, 2], bytes: Float32Array.of(1, -2.5, 0, 1e-30) }],
        ["h", { dtype: "F16", shape: [2], bytes: Float16Array.of(0.1, -65504) }],
        ["b", { dtype: "BF16", shape: [1, 2], bytes: Uint16Array.of(0x3fc0, 0xc2f7) }],
        ["none", { dtype: "F32", shape: [0, 4], bytes: new Float32Array(0) }],
      ]),
      { made_by: "test" },
    );
    const file = openSafetensors(path);
    assertEquals(file.metadata, { made_by: "test" });
    assertEquals(file.read("flags").bytes, Uint8Array.of(1, 0, 255));
    assertEquals(
      new BigInt64Array(file.read("ids").bytes.buffer),
      BigInt64Array.of(-1n, 2n ** 40n),
    );
    assertEquals(file.readFloat32("w"), {
      shape: [2, 2],
      data: Float32Array.of(1, -2.5, 0, 1e-30),
    });
    assertEquals(file.readFloat32("h").data, Float32Array.of(0.0999755859375, -65504));
    assertEquals(file.readFloat32("b"), { shape: [1, 2], data: Float32Array.of(1.5, -123.5) });
    assertEquals(file.readFloat32("none").data.length, 0);
    assertThrows(() => file.readFloat32("ids"), InvalidFile);
    assertThrows(() => file.read("other"), InvalidFile);
    // Wide elements first, so every tensor is aligned to its own element.
    for (const { begin, dtype } of file.tensors.values()) {
      assertEquals(begin % { F32: 4, I64: 8, F16: 2, BF16: 2, U8: 1 }[dtype as "F32"], 0);
    }
    file.close();
    const wrong = new Map([[
      "a",
      { dtype: "F32", shape: [3], bytes: new Float32Array(2) } as const,
    ]]);
    await assertRejects(() => writeSafetensors(path, wrong), RangeError);
  }));

const lies: [string, Uint8Array][] = [
  ["an empty file", new Uint8Array(0)],
  ["a header longer than the file", fileOf("{}", 0).fill(0xff, 0, 7)],
  ["a header of 2^63 bytes", fileOf("{}", 0).fill(0x80, 7, 8)],
  ["a header that is no JSON", fileOf("{", 0)],
  ["a header that is a list", fileOf([], 0)],
  ["an unknown type", fileOf(entry("F31", [1], [0, 4]), 4)],
  ["a type from the prototype", fileOf(entry("toString", [1], [0, 4]), 4)],
  ["a negative size", fileOf(entry("F32", [-1], [0, 4]), 4)],
  ["a size of half", fileOf(entry("F32", [0.5, 2], [0, 4]), 4)],
  ["a shape that is no list", fileOf(entry("F32", 1, [0, 4]), 4)],
  ["a shape larger than its bytes", fileOf(entry("F32", [2], [0, 4]), 4)],
  ["a huge shape", fileOf(entry("F32", [2 ** 40, 2 ** 40], [0, 4]), 4)],
  ["offsets the wrong way round", fileOf(entry("F32", [1], [4, 0]), 4)],
  ["three offsets", fileOf(entry("F32", [1], [0, 4, 8]), 8)],
  ["data past the end", fileOf(entry("F32", [2], [0, 8]), 4)],
  ["bytes that belong to no tensor", fileOf(entry("F32", [1], [0, 4]), 8)],
  ["a gap", fileOf(entry("F32", [1], [4, 8]), 8)],
  [
    "an overlap",
    fileOf(
      { ...entry("F32", [2], [0, 8]), b: { dtype: "F32", shape: [1], data_offsets: [4, 8] } },
      8,
    ),
  ],
  ["metadata that is no text", fileOf({ __metadata__: { a: 1 } }, 0)],
];

Deno.test("safetensors: a lying header is refused", async (t) => {
  for (const [what, bytes] of lies) {
    await t.step(what, () =>
      inFolder((folder) => {
        Deno.writeFileSync(`${folder}/x`, bytes);
        assertThrows(() => openSafetensors(`${folder}/x`), InvalidFile);
      }));
  }
});

Deno.test("safetensors: a cut file is refused, a damaged header never does worse", () =>
  inFolder(async (folder) => {
    const path = `${folder}/x.safetensors`;
    await writeSafetensors(
      path,
      new Map([
        ["first.weight", { dtype: "F32", shape: [3, 5], bytes: new Float32Array(15) }],
        ["second.weight", { dtype: "BF16", shape: [7], bytes: new Uint16Array(7) }],
      ]),
    );
    const whole = Deno.readFileSync(path);
    for (let size = 0; size < whole.length; size++) {
      Deno.writeFileSync(path, whole.subarray(0, size));
      assertThrows(() => openSafetensors(path), InvalidFile, `cut to ${size} bytes`);
    }
    const headerBytes = whole.length - 15 * 4 - 7 * 2;
    let refused = 0;
    const damage = fc.array(fc.tuple(fc.nat(headerBytes - 1), fc.nat(255)), {
      minLength: 1,
      maxLength: 4,
    });
    fc.assert(
      fc.property(damage, (changes) => {
        const bytes = whole.slice();
        for (const [at, byte] of changes) bytes[at] = byte;
        Deno.writeFileSync(path, bytes);
        try {
          const file = openSafetensors(path);
          for (const name of file.tensors.keys()) file.read(name);
          file.close();
        } catch (error) {
          if (!(error instanceof InvalidFile)) throw error;
          refused++;
        }
      }),
      { numRuns: 300 },
    );
    // Most damage must be noticed; what is not changes a name or a space.
    assert(refused > 150, `only ${refused} of 300 damaged headers were refused`);
  }));
