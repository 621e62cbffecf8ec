// /readyz follows the engine: an orchestrator sends no work while it cannot be done.

import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { appFixture } from "./fixture.ts";

Deno.test("readyz is 503 with the reason while the engine is down, livez is not", async () => {
  await using f = await appFixture();
  assertEquals((await f.get("/readyz"))[0], 200);
  f.base.engine.trouble = "The engine stopped: out of memory. It is being started again.";
  const response = await f.request("/readyz");
  const { error } = await response.json();
  assertEquals([response.status, error.code], [503, "unavailable"]);
  assert(error.message.includes(f.base.engine.trouble), error.message);
  assertStrictEquals((await f.get("/livez"))[0], 200);
  f.base.engine.trouble = null;
  assertEquals((await f.get("/readyz"))[0], 200);
  await f.base.queue.close();
  assertEquals((await f.get("/readyz"))[0], 503);
});
