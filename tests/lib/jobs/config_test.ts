import { assertEquals, assertStrictEquals } from "@std/assert";
import { keyVariable, serverConfig } from "../../../lib/jobs/config.ts";

Deno.test("hosts of teachers are names or addresses with or without a port", () => {
  const accepts = (more: object) => serverConfig.safeParse(more).success;
  for (const host of ["localhost", "127.0.0.1:8000", "::1", "[::1]", "[::1]:8000", "a.example:1"]) {
    assertStrictEquals(accepts({ teacher_hosts: [host] }), true, host);
  }
  for (
    const host of ["", "http://a.example", "a.example/v1", "a:b", "a:0", "a:65536", "u@a", "a b"]
  ) {
    assertStrictEquals(accepts({ teacher_hosts: [host] }), false, host);
  }
  assertStrictEquals(accepts({ teacher_keys: { "a.example:443": "A_KEY" } }), true);
  assertStrictEquals(accepts({ teacher_keys: { "a.example": "A_KEY" } }), false);
  assertStrictEquals(accepts({ teacher_keys: { "a.example:443": "sk-secret" } }), false);
});

Deno.test("a key is found by host and port, however the address spells them", () => {
  const config = serverConfig.parse({
    teacher_keys: { "A.example:443": "A", "[::1]:80": "B", "127.0.0.1:8000": "C" },
  });
  const found = (url: string) => keyVariable(config, new URL(url));
  assertEquals(
    ["https://a.example/v1", "https://a.EXAMPLE:443", "http://[0::1]", "http://127.1:8000"].map(
      found,
    ),
    ["A", "A", "B", "C"],
  );
  assertEquals(
    ["http://a.example", "https://b.a.example", "https://[::1]", "http://127.0.0.1:80"].map(found),
    [null, null, null, null],
  );
});
