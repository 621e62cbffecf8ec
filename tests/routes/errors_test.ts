// How the engine's failures are answered: which status, and whether a client may send it again.

import { assert, assertEquals } from "@std/assert";
import { configure, type LogRecord, reset } from "@logtape/logtape";
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

Deno.test("an error of the server's own is in the log, under the id of the request or the job", async () => {
  const records: LogRecord[] = [];
  await configure({
    sinks: { memory: (record) => void records.push(record) },
    loggers: [
      { category: "lorapar", lowestLevel: "warning", sinks: ["memory"] },
      { category: ["logtape", "meta"], lowestLevel: "error", sinks: [] },
    ],
  });
  try {
    await using f = await appFixture();
    const error = new TypeError("secret");
    f.base.engine.behave = () => Promise.reject(error);
    const response = await f.request("/v1/models/lorapar-tiny");
    assertEquals([response.status, (await response.json()).error.code], [500, "internal_error"]);
    const told = (name: string) => records.find(({ message }) => message.includes(name))?.message;
    assert(told(response.headers.get("x-request-id")!)?.includes(error));
    const file = await f.base.upload("{}\n");
    const body = { model: "lorapar-tiny", file };
    const [, job] = await f.post("/v1/train", body, { prefer: "wait=10" });
    assertEquals([job.status, job.error.code], ["failed", "internal_error"]);
    assert(!JSON.stringify(job).includes("secret"));
    assert(told(job.id)?.includes(error));
  } finally {
    await reset();
  }
});
