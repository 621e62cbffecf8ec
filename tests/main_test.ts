// The program itself, started as users start it: refusals, start, restart and stop by signal.
// No request here needs the GPU.

import { assert, assertEquals, assertStrictEquals } from "./asserts.ts";

const root = new URL("../", import.meta.url);

function lorapar(args: string[], env: Record<string, string>): Deno.Command {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-prompt", new URL("main.ts", root).href, ...args],
    env: { NO_COLOR: "1", ...env },
    stdout: "piped",
    stderr: "piped",
  });
}

/** Starts the server on a free port and runs `use` with its address; it is stopped by SIGTERM. */
async function withServer(data: string, use: (url: string) => Promise<void>): Promise<void> {
  const server = lorapar([], { PORT: "0", LORAPAR_DATA: data }).spawn();
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
