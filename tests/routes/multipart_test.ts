import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { readMultipart } from "../../routes/multipart.ts";

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
