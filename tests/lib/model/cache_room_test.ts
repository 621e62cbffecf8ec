// Generations side by side share the room for keys and values: none takes more than its part, none takes
// any before its turn, and what fits nowhere is refused.

import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { CacheRoom, cacheRoomOf, requireRow, rowSize } from "../../../lib/model/cache_room.ts";
import { destroyDecoder, loadDecoder } from "../../../lib/model/decoder.ts";
import { generate, type GenerateRequest } from "../../../lib/model/generate.ts";
import { openModel } from "../../../lib/model/open.ts";
import { Cancelled, GpuError } from "../../../lib/errors.ts";
import { assertRejects, assertThrows } from "../../asserts.ts";
import { testGpu } from "../../gpu.ts";
import { inFolder, tinyConfig, writeHfFolder } from "./tiny_model.ts";

const size = { tokens: 10, bytes: 10, largest: 5, bindable: 64 };
const patient = () => {};

Deno.test("rows by the room that is there: a quarter in turns, all of it alone", async () => {
  const room = new CacheRoom(() => 400);
  assertStrictEquals(await room.take(size, 64, patient), 10);
  assertStrictEquals(await room.take(size, 3, patient), 3);
  // 27 of 40 rows are left, and a quarter of all are 10.
  assertStrictEquals(await room.take(size, 64, patient), 10);
  assertStrictEquals(await room.take({ ...size, bindable: 2 }, 64, patient), 2);
  assertStrictEquals(room.takeAlone(size, 64), 40);
  assertStrictEquals(room.takeAlone(size, 7), 7);
  const small = new CacheRoom(() => 15);
  assertEquals([await small.take(size, 5, patient), small.takeAlone(size, 5)], [1, 1]);
  const large = new CacheRoom(() => 1e6);
  assertEquals([await large.take(size, 100, patient), large.takeAlone(size, 100)], [64, 64]);
});

Deno.test("who finds no room waits in line until there is some, or is cancelled", async () => {
  const room = new CacheRoom(() => 40);
  const taken = room.takeAlone(size, 4);
  const order: string[] = [];
  const first = room.take(size, 1, patient).then((rows) => (order.push("first"), rows));
  const second = room.take(size, 1, () => {
    throw new Cancelled("Cancelled by request.");
  });
  const third = room.take(size, 1, patient).then((rows) => (order.push("third"), rows));
  await new Promise((resolve) => setTimeout(resolve, 80));
  assertEquals(order, []);
  room.release(size, taken);
  assertStrictEquals(await first, 1);
  await assertRejects(second, Cancelled);
  assertStrictEquals(await third, 1);
  assertEquals(order, ["first", "third"]);
});

Deno.test("a completion that fits nowhere is refused with the sum", async () => {
  const room = new CacheRoom(() => 5 * 2 ** 20);
  await assertRejects(
    room.take({ ...size, tokens: 8000, bytes: 7 * 2 ** 20 }, 1, patient),
    (error: GpuError) =>
      error instanceof GpuError && error.code === "out_of_memory" &&
      /up to 8000 tokens.*7 MiB, 5 MiB are there/.test(error.message),
  );
  // The next in line is not held up.
  assertStrictEquals(await room.take(size, 1, patient), 1);
  const gpu = await testGpu();
  const config = { ...tinyConfig, maxPositions: 2 ** 30 };
  const bytes = gpu.facts.limits.maxBindingBytes;
  const unbindable = rowSize(gpu, config, bytes / 8);
  assertStrictEquals(unbindable.bindable, 0);
  assertThrows(() => requireRow(gpu, config, unbindable, 10), /a layer's keys and values take/);
  if (gpu.facts.software) {
    const wide = { ...config, intermediateSize: 2 ** 24 };
    const row = rowSize(gpu, wide, 100);
    assertThrows(
      () => requireRow(gpu, wide, row, 2 ** 20),
      /its activations, keys and values take/,
    );
  }
});

Deno.test("generation keeps to its room, and holds nothing before its turn", () =>
  inFolder(async (folder) => {
    await writeHfFolder(folder);
    const gpu = await testGpu();
    const source = await openModel(folder);
    const decoder = await loadDecoder(gpu, source);
    const request: GenerateRequest = {
      prompts: [Uint32Array.of(1, 2, 3), Uint32Array.of(4, 5)],
      completionsPerPrompt: 6,
      maxNewTokens: 40,
      temperature: 1,
      topK: 0,
      topP: 1,
      minP: 0,
      seed: 3,
      eosTokens: [],
    };
    const policy = { decoder, adapter: null };
    const wanted = await generate(gpu, policy, request);
    const row = rowSize(gpu, decoder.config, 43);
    const used = () => gpu.pool.memory.usedBytes;
    const before = used();

    let most = 0;
    let rows = 0;
    const room = new CacheRoom(() => 12 * row.bytes);
    const together = await generate(gpu, policy, request, {
      room,
      turn: (work) => work(),
      onTokens(number) {
        most = Math.max(most, used() - before);
        rows = Math.max(rows, number);
        return true;
      },
    });
    assertEquals(together, wanted);
    assertStrictEquals(rows, 11);
    // Three rows at a time, and each buffer takes a size class.
    assert(most > row.bytes && most < 6 * row.bytes, `${most} of ${row.bytes} a row`);

    const turn = Promise.withResolvers<void>();
    const waiting = generate(gpu, policy, { ...request, maxNewTokens: 100 }, {
      turn: (work) => turn.promise.then(work),
    });
    await new Promise((resolve) => setTimeout(resolve, 20));
    assertStrictEquals(used(), before);
    turn.resolve();
    assertEquals((await waiting).map(({ tokens }) => tokens.length), Array(12).fill(100));
    assertStrictEquals(used(), before);
    // All of it was released: the whole room is there again.
    assertStrictEquals(cacheRoomOf(gpu).takeAlone(row, 64), 64);
    cacheRoomOf(gpu).release(row, 64);
    source.close();
    await destroyDecoder(gpu, decoder);
  }));
