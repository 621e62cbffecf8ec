import { assert, assertEquals } from "@std/assert";
import type { Message } from "../../../lib/data/record.ts";
import { Cancelled, InvalidRequest } from "../../../lib/errors.ts";
import { httpTeacher, type HttpTeacherOptions } from "../../../lib/par/teachers.ts";
import { assertRejects, assertThrows } from "../../asserts.ts";

const prompts = (count: number): Message[][] =>
  Array.from({ length: count }, (_, index) => [{ role: "user", content: `task ${index}` }]);

const completion = (content: unknown) =>
  Response.json({ choices: [{ message: { role: "assistant", content } }] });

interface Asked {
  body: { model: string; messages: Message[]; seed: number; temperature: number };
  headers: Headers;
  path: string;
}

/** Runs a server that answers by `answer` and a teacher behind it. */
async function withServer(
  answer: (asked: Asked, count: number) => Response | Promise<Response>,
  test: (
    teacher: (options?: Partial<HttpTeacherOptions>) => ReturnType<typeof httpTeacher>,
    asked: Asked[],
  ) => Promise<void>,
) {
  const asked: Asked[] = [];
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, async (request) => {
    const one = {
      body: await request.json(),
      headers: request.headers,
      path: new URL(request.url).pathname,
    };
    asked.push(one);
    return answer(one, asked.length);
  });
  const settings = {
    name: "judge",
    model: "big",
    base_url: `http://127.0.0.1:${server.addr.port}/v1/`,
    temperature: 0.5,
  };
  const defaults = { param: "teachers[2]", allowedHosts: ["127.0.0.1"], backoffMs: 1 };
  try {
    await test((options) => httpTeacher(settings, { ...defaults, ...options }), asked);
  } finally {
    await server.shutdown();
  }
}

const isRefusal = (message: RegExp, param = "teachers[2].base_url") => (error: unknown) => {
  if (!(error instanceof InvalidRequest) || !message.test(error.message)) throw error;
  assertEquals(error.param, param);
  return true;
};

Deno.test("teachers: replies come back in order, at most so many at a time", async () => {
  let running = 0, most = 0;
  await withServer(async ({ body }) => {
    most = Math.max(most, ++running);
    await new Promise((resolve) => setTimeout(resolve, 2));
    running--;
    return completion(`re: ${body.messages[0].content}`);
  }, async (teacher, asked) => {
    const told: [number, string][] = [];
    const replies = await teacher({ concurrency: 3, apiKey: "secret" })
      .voteAll(prompts(7), 11, (index, reply) => told.push([index, reply]));
    assertEquals(replies, prompts(7).map(([{ content }]) => `re: ${content}`));
    assertEquals(told.sort(([a], [b]) => a - b), [...replies.entries()]);
    assertEquals(most, 3);
    const [{ body, headers, path }] = asked;
    assertEquals(path, "/v1/chat/completions");
    assertEquals([body.model, body.temperature], ["big", 0.5]);
    const seeds = asked.map(({ body }) => body.seed);
    // Each prompt has its own; servers take no larger ones.
    assertEquals(new Set(seeds).size, 7);
    assert(seeds.every((seed) => Number.isInteger(seed) && seed >= 0 && seed < 2 ** 31));
    assertEquals(headers.get("authorization"), "Bearer secret");
  });
});

for (const status of [408, 409, 429, 500, 503]) {
  Deno.test(`teachers: ${status} is tried again`, async () => {
    await withServer(
      (_, count) => count < 3 ? new Response("busy", { status }) : completion("System1"),
      async (teacher, asked) => {
        assertEquals(await teacher().voteAll(prompts(1), 0), ["System1"]);
        assertEquals([asked.length, asked[0].headers.get("authorization")], [3, null]);
      },
    );
  });
}

Deno.test("teachers: retries have an end, and the error says what happened", async () => {
  await withServer(() => new Response("overloaded", { status: 503 }), async (teacher, asked) => {
    await assertRejects(
      () => teacher().voteAll(prompts(1), 0),
      isRefusal(
        /teacher "judge" at http:\S+completions: it answers 503 with 10 bytes \(after 3 tries\)/,
      ),
    );
    assertEquals(asked.length, 3);
  });
});

for (
  const [what, response, message] of [
    ["401", () => new Response("secret", { status: 401 }), /401 with 6 bytes \(after 1 try\)/],
    ["no completion", () => Response.json({ page: "secret" }), /no choices\[0\].* 17 bytes/],
    ["no JSON", () => new Response("<html>secret"), /no choices\[0\].* 12 bytes/],
    [
      "a redirect",
      () => new Response(null, { status: 307, headers: { location: "http://127.0.0.1:1/" } }),
      /307, a redirect, which is refused/,
    ],
  ] as const
) {
  Deno.test(`teachers: ${what} is not tried again`, async () => {
    await withServer(response, async (teacher, asked) => {
      await assertRejects(() => teacher().voteAll(prompts(1), 0), (error: Error) => {
        // What it answers may be an internal service's page.
        assert(!error.message.includes("secret"), error.message);
        return isRefusal(message)(error);
      });
      assertEquals(asked.length, 1);
    });
  });
}

Deno.test("teachers: an answer without text is a reply, one without end is not read", async () => {
  await withServer(() => completion(null), async (teacher) => {
    assertEquals(await teacher().voteAll(prompts(1), 0), [""]);
  });
  await withServer(() => new Response("x".repeat(2 ** 20 + 1)), async (teacher) => {
    await assertRejects(
      () => teacher({ maxTries: 1 }).voteAll(prompts(1), 0),
      isRefusal(/exceeds 1048576 bytes/),
    );
  });
});

Deno.test("teachers: a server that is down is named", async () => {
  const listener = Deno.listen({ port: 0, hostname: "127.0.0.1" });
  const { port } = listener.addr;
  listener.close();
  const teacher = httpTeacher(
    { name: "judge", model: "m", base_url: `http://127.0.0.1:${port}`, temperature: 0 },
    { param: "teachers[2]", allowedHosts: ["127.0.0.1"], backoffMs: 1 },
  );
  await assertRejects(
    () => teacher.voteAll(prompts(5), 0),
    isRefusal(new RegExp(`"judge" at http://127.0.0.1:${port}/chat/completions: .*after 3 tries`)),
  );
});

Deno.test("teachers: a slow server is given up, an abort cancels", async () => {
  const late = () => new Promise<Response>((resolve) => setTimeout(resolve, 60, completion("")));
  await withServer(late, async (teacher) => {
    await assertRejects(
      () => teacher({ timeoutMs: 5, maxTries: 2 }).voteAll(prompts(1), 0),
      isRefusal(/no answer within 0\.005 s \(after 2 tries\)/),
    );
    const stop = new AbortController();
    setTimeout(() => stop.abort(), 5);
    await assertRejects(
      () => teacher().voteAll(prompts(20), 0, undefined, stop.signal),
      (error) => error instanceof Cancelled,
    );
  });
});

for (
  const [base_url, allowedHosts, message] of [
    ["http://example.com/v1", ["127.0.0.1"], /example\.com: port 80 .* hosts \(127\.0\.0\.1\)/],
    ["http://127.0.0.1.example.com", ["127.0.0.1"], /is not among the allowed/],
    ["http://127.0.0.1:8001", ["127.0.0.1:8000"], /port 8001 of this host is not among/],
    ["https://127.0.0.1", ["127.0.0.1:80"], /port 443 of this host is not among/],
    ["file:///etc/passwd", [""], /begins with file:/],
    ["http://user:pass@127.0.0.1", ["127.0.0.1"], /carries a user or a password/],
    [undefined, ["127.0.0.1"], /not an address/],
  ] as const
) {
  Deno.test(`teachers: ${base_url} is refused`, () => {
    assertThrows(
      () =>
        httpTeacher({ name: "judge", model: "m", base_url, temperature: 0 }, {
          param: "teachers[0]",
          allowedHosts: [...allowedHosts],
        }),
      (error: Error) => {
        assert(!/user:|:pass/.test(error.message), error.message);
        return isRefusal(message, "teachers[0].base_url")(error);
      },
    );
  });
}

Deno.test("teachers: hosts may be listed with a port, and IPv6 addresses without brackets", () => {
  for (
    const [base_url, host] of [
      ["http://127.0.0.1:8000/v1", "127.0.0.1:8000"],
      ["http://127.0.0.1/v1", "127.0.0.1:80"],
      ["https://127.0.0.1/v1", "127.0.0.1:443"],
      ["http://[::1]:8000/v1", "::1"],
      ["http://[::1]:8000/v1", "[::1]:8000"],
    ]
  ) {
    const settings = { name: "judge", model: "m", base_url, temperature: 0 };
    assert(httpTeacher(settings, { param: "teachers[0]", allowedHosts: [host] }));
  }
});
