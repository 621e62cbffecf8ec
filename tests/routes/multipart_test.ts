import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { InvalidRequest } from "../../lib/errors.ts";
import { readMultipart } from "../../routes/multipart.ts";
import { assertRejects } from "../asserts.ts";

/** The bytes as a stream of pieces cut at these lengths. */
function streamOf(bytes: Uint8Array, cuts: number[]): ReadableStream<Uint8Array> {
  let at = 0;
  let next = 0;
  return new ReadableStream({
    pull(controller) {
      if (at >= bytes.length) return controller.close();
      const end = at + Math.max(1, cuts[next++ % cuts.length]!);
      controller.enqueue(bytes.slice(at, end));
      at = end;
    },
  });
}

Deno.test("any bytes, cut anywhere, come through as they went in", async () => {
  // Bytes that look like pieces of the boundary are the hard case.
  const nasty = fc.array(
    fc.constantFrom("\r", "\n", "-", "b", "\r\n", "\r\n--", "\r\n--b", "\r\n--bB", "x"),
    { maxLength: 30 },
  ).map((pieces) => pieces.join("")).filter((text) => !text.includes("\r\n--bBb"));
  await fc.assert(
    fc.asyncProperty(
      fc.array(nasty, { minLength: 1, maxLength: 4 }),
      fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 20 }),
      async (texts, cuts) => {
        const body =
          texts.map((text, i) =>
            `--bBb\r\nContent-Disposition: form-data; name="p${i}"\r\n\r\n${text}\r\n`
          ).join("") + "--bBb--\r\n";
        const found: [string, string][] = [];
        const stream = streamOf(new TextEncoder().encode(body), cuts);
        for await (const part of readMultipart(stream, "bBb")) {
          let text = "";
          for await (const chunk of part.chunks) text += new TextDecoder().decode(chunk);
          found.push([part.name, text]);
        }
        assertEquals(found, texts.map((text, i) => [`p${i}`, text]));
      },
    ),
    { numRuns: 300 },
  );
});

const head = 'content-disposition: form-data; name="a"\r\n\r\n';
for (
  const [name, body, message] of [
    ["nothing", "", /ends before its last boundary/],
    ["no last boundary", `--x\r\n${head}1\r\n--x\r\n`, /ends before its last boundary/],
    ["a part without a name", "--x\r\ncontent-disposition: form-data\r\n\r\n1\r\n--x--", /no name/],
    ["a part without a disposition", "--x\r\nx-y: z\r\n\r\n1\r\n--x--", /no name/],
    ["a head without an end", `--x\r\n${head.trimEnd()}\r\n--x--\r\n`, /ends before/],
    [
      "a head that a boundary cuts off",
      `--x\r\n${head.trimEnd()}\r\n--x\r\n${head}1\r\n--x--`,
      /a part's head does not end/,
    ],
    [
      "a head that is too long",
      `--x\r\nx-y: ${"z".repeat(20_000)}\r\n${head}1\r\n--x--\r\n`,
      /a part's head is longer than 16384 bytes/,
    ],
    ["something behind a boundary", `--x\r\n${head}1\r\n--xy\r\n`, /not followed by a line break/],
    [
      "much before the first boundary",
      `${"z".repeat(20_000)}\r\n--x--`,
      /before its first boundary/,
    ],
    ["too many parts", `--x\r\n${head}1\r\n`.repeat(33) + "--x--", /more than 32 parts/],
  ] as const
) {
  Deno.test(`a body with ${name} is refused, not read in part`, async () => {
    await assertRejects(
      async () => {
        const stream = streamOf(new TextEncoder().encode(body), [7]);
        for await (const part of readMultipart(stream, "x")) {
          for await (const _ of part.chunks);
        }
      },
      (error) => error instanceof InvalidRequest && message.test(error.message),
    );
  });
}
