// The program itself, started as users start it: refusals, start, restart and stop by signal.
// No request here needs the GPU.

import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { fileURLToPath } from "node:url";
import { readConfig } from "../commands/settings.ts";
import project from "../deno.json" with { type: "json" };

const root = new URL("../", import.meta.url);

const running = { stdout: "piped", stderr: "piped" } as const;

function lorapar(args: string[], env: Record<string, string>): Deno.Command {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-prompt", new URL("main.ts", root).href, ...args],
    env: { NO_COLOR: "1", ...env },
    ...running,
  });
}

/** The server, with so many file descriptors at most. */
function limited(descriptors: number, env: Record<string, string>): Deno.Command {
  const start = `ulimit -n ${descriptors}; exec "$0" run -A --no-prompt "$1"`;
  const args = ["-c", start, Deno.execPath(), new URL("main.ts", root).href];
  return new Deno.Command("sh", { args, env: { NO_COLOR: "1", ...env }, ...running });
}

/** Starts the server on a free port and runs `use` with its address; it is stopped by SIGTERM. */
async function withServer(
  data: string,
  use: (url: string) => Promise<void>,
  descriptors?: number,
): Promise<void> {
  const env = { PORT: "0", LORAPAR_DATA: data };
  const server = (descriptors ? limited(descriptors, env) : lorapar([], env)).spawn();
  const reader = server.stdout.pipeThrough(new TextDecoderStream()).getReader();
  let log = "";
  while (!/docs: /.test(log)) {
    const { value, done } = await reader.read();
    if (done) throw new Error(`The server did not start: ${log}`);
    log += value;
  }
  try {
    await use(/http:\/\/127\.0\.0\.1:\d+/.exec(log)![0]);
  } finally {
    server.kill("SIGTERM");
    for (let next = await reader.read(); !next.done; next = await reader.read()) log += next.value;
    await server.stderr.cancel();
    assertStrictEquals((await server.status).code, 0, log);
  }
}

Deno.test("a server keeps its files over a stop and a start", async () => {
  const data = await Deno.makeTempDir();
  try {
    let id = "";
    await withServer(data, async (url) => {
      const form = new FormData();
      form.append("file", new File(["{}\n"], "a.jsonl"));
      const response = await fetch(`${url}/v1/files`, { method: "POST", body: form });
      id = (await response.json()).id;
      const second = await lorapar([], { PORT: "0", LORAPAR_DATA: data }).output();
      assertStrictEquals(second.code, 1);
      assert(/another lorapar is using it/.test(new TextDecoder().decode(second.stderr)));
    });
    await withServer(data, async (url) => {
      const response = await fetch(`${url}/v1/files/${id}/content`);
      assertEquals([response.status, await response.text()], [200, "{}\n"]);
    });
  } finally {
    await Deno.remove(data, { recursive: true });
  }
});

for (const descriptors of [1024, 200]) {
  Deno.test({
    name: `2,000 half-sent requests leave a server of ${descriptors} descriptors answering`,
    ignore: Deno.build.os === "windows",
    async fn() {
      const data = await Deno.makeTempDir();
      const connections: Deno.TcpConn[] = [];
      try {
        await withServer(data, async (url) => {
          const port = Number(new URL(url).port);
          const half = new TextEncoder().encode("GET /livez HTTP/1.1\r\nhost: localhost\r\n");
          for (let i = 0; i < 2000; i++) {
            const connection = await Deno.connect({ hostname: "127.0.0.1", port });
            connections.push(connection);
            await connection.write(half);
          }
          const startMs = performance.now();
          const response = await fetch(`${url}/livez`, { headers: { connection: "close" } });
          assertStrictEquals(response.status, 200);
          await response.body?.cancel();
          // Not only once the half-sent ones were timed out.
          assert(performance.now() - startMs < 8000);
        }, descriptors);
      } finally {
        for (const connection of connections) connection.close();
        await Deno.remove(data, { recursive: true });
      }
    },
  });
}

Deno.test("what nobody caught ends no server", async () => {
  const program = new URL("commands/program.ts", root).href;
  const code = `import { outliveFaults } from "${program}";
    outliveFaults();
    Promise.reject(new Error("dropped"));
    setTimeout(() => { throw new Error("thrown"); });
    setTimeout(() => console.log("still here"), 50);`;
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["eval", code],
    cwd: fileURLToPath(root),
    stdout: "piped",
    stderr: "piped",
  }).output();
  assertStrictEquals(new TextDecoder().decode(stdout), "still here\n");
});

Deno.test("what cannot be run is refused in words, with status 1", async () => {
  const folder = await Deno.makeTempDir();
  const config = { model: "lorapar-tiny", file: "none.jsonl" };
  await Deno.writeTextFile(`${folder}/misspelt.json`, JSON.stringify({ ...config, thta: 1 }));
  await Deno.writeTextFile(`${folder}/absent.json`, JSON.stringify(config));
  const refusals: [string[], Record<string, string>, RegExp][] = [
    [[], { HOST: "0.0.0.0", LORAPAR_API_KEY: "" }, /without an API key/],
    [[], { PORT: "many" }, /Cannot accept "many" as "port"/],
    [[], { LORAPAR_MODELS: "/nowhere/at/all" }, /it is no folder/],
    [["--config", "/nowhere.json"], {}, /Cannot read \/nowhere\.json/],
    [["train"], {}, /lorapar train CONFIG\.json/],
    [["train", `${folder}/misspelt.json`], {}, /unknown field "thta"/],
    [
      ["train", `${folder}/absent.json`],
      { LORAPAR_DATA: `${folder}/data` },
      /Cannot train on .*none\.jsonl/,
    ],
    [["fly"], {}, /Cannot run "fly"/],
    [["--prot", "80"], {}, /^Unknown option '--prot'\. See --help\.$/m],
    [["--port", "many"], {}, /Cannot accept "many" as "port"/],
    [["--data"], {}, /'--data <value>' argument missing\. See --help\.$/m],
    [["doctor", "--models", "nowhere"], {}, /Cannot look for models in \/.*\/nowhere: /],
  ];
  for (const [args, env, wanted] of refusals) {
    const { code, stderr } = await lorapar(args, env).output();
    const text = new TextDecoder().decode(stderr);
    assertStrictEquals(code, 1, text);
    assert(wanted.test(text), text);
    assert(!/^\s+at .*main\.ts/m.test(text), `a stack trace: ${text}`);
  }
  await Deno.remove(folder, { recursive: true });
});

Deno.test("run answers as lorapar, from any folder, and prints nothing of its own", async () => {
  const folder = await Deno.makeTempDir();
  const run = async (...args: string[]) => {
    const { code, stdout, stderr } = await new Deno.Command(fileURLToPath(new URL("run", root)), {
      args,
      cwd: folder,
      stdout: "piped",
      stderr: "piped",
    }).output();
    const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
    return { code, stdout: text(stdout), stderr: text(stderr) };
  };
  try {
    const help = await run("--help");
    assertEquals([help.code, help.stderr], [0, ""]);
    assert(help.stdout.startsWith("lorapar "), help.stdout);
    const version = await run("--version");
    assertEquals(version, { code: 0, stdout: `${project.version}\n`, stderr: "" });
    const unknown = await run("fly");
    assertEquals([unknown.code, unknown.stdout], [1, ""]);
    assert(/Cannot run "fly"/.test(unknown.stderr), unknown.stderr);
    // Relative paths start here, not in the repository.
    await Deno.writeTextFile(`${folder}/settings.json`, '{"port": 70000}');
    const wrong = await run("serve", "--config", "settings.json");
    assert(/Cannot accept 70000 as "port"/.test(wrong.stderr), wrong.stderr);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("options go before the environment, relative folders start at the caller's", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const environment = {
      PORT: "1",
      HOST: "::1",
      LORAPAR_DATA: "of_environment",
      INIT_CWD: folder,
    };
    const config = readConfig({ port: "2", data: "of_options" }, environment);
    assertEquals([config.port, config.host], [2, "::1"]);
    // The tests run in the project's folder, as a task of Deno does.
    assertStrictEquals(config.data, `${folder}/of_options`);
    assertStrictEquals(readConfig({}, environment).data, `${folder}/of_environment`);
    assertStrictEquals(readConfig({}, { ...environment, LORAPAR_DATA: "/there" }).data, "/there");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("a stop waits for no client that sends slowly", async () => {
  const data = await Deno.makeTempDir();
  let slow: Deno.TcpConn | null = null;
  let begin = 0;
  try {
    await withServer(data, async (url) => {
      slow = await Deno.connect({ port: Number(new URL(url).port) });
      const head = "POST /v1/files HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n" +
        "Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n";
      await slow.write(new TextEncoder().encode(head));
      await fetch(`${url}/livez`).then((response) => response.body?.cancel());
      begin = performance.now();
    });
    const seconds = (performance.now() - begin) / 1000;
    assert(seconds < 8, `the stop took ${seconds} s`);
  } finally {
    (slow as Deno.TcpConn | null)?.close();
    await Deno.remove(data, { recursive: true });
  }
});
