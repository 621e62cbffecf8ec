// How the engine's failures are answered: which status, and whether a client may send it again.

import { assert, assertEquals } from "@std/assert";
import { GpuError, NumericError, StorageError } from "../../lib/errors.ts";

import { appFixture } from "./fixture.ts";

Deno.test("a failure of the engine says whether sending it again may help", async () => {
  const answers: [Error, number, string | null, string | null][] = [
    [new GpuError("Cannot load a now.", "model", "memory_in_use"), 503, null, "10"],
    [new GpuError("Cannot load a.", "model", "out_of_memory"), 500, "false", null],
    [new GpuError("The engine stopped.", null, "engine_stopped"), 503, null, "10"],
    [new GpuError("The engine is down.", null, "engine_down"), 503, null, "10"],
    [new StorageError("Cannot write: the disk is full."), 507, "false", null],
    [new GpuError("The GPU was lost.", null, "device_lost"), 503, null, "10"],
    [new GpuError("The GPU refused a command."), 500, "false", null],
    [new NumericError("The logits are NaN."), 500, "false", null],
  ];
  await using f = await appFixture();
  for (const [error, status, shouldRetry, retryAfter] of answers) {
    f.base.engine.behave = () => Promise.reject(error);
    const response = await f.request("/v1/chat/completions", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({
        model: "lorapar-tiny",
        messages: [{ role: "user", content: "Hi" }],
      }),
    });
    const { message } = (await response.json()).error;
    const { headers } = response;
    assertEquals(
      [message, response.status, headers.get("x-should-retry"), headers.get("retry-after")],
      [error.message, status, shouldRetry, retryAfter],
    );
  }
});

Deno.test("where descriptors have run out, a later try may help", async () => {
  await using f = await appFixture();
  const error = Object.assign(new Error("Too many open files: open '/secret'"), { code: "EMFILE" });
  f.base.engine.behave = () => Promise.reject(error);
  const [status, body] = await f.get("/v1/models/lorapar-tiny");
  assertEquals([status, body.error.code], [503, "unavailable"]);
  assert(!JSON.stringify(body).includes("secret"));
});
