// What a person sees: pages opened in a headless Chromium that reaches nothing but the server. Where
// there is no browser the tests are ignored; `./run test` installs one where it can.

import { assert, assertEquals } from "@std/assert";
import { appFixture } from "./routes/fixture.ts";

/** The path of a Chromium or Chrome, or null. */
function findBrowser(): string | null {
  const folders = (Deno.env.get("PATH") ?? "").split(":").filter((one) => one);
  const names = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"];
  const places = [
    Deno.env.get("CHROME_PATH"),
    ...names.flatMap((name) => folders.map((folder) => `${folder}/${name}`)),
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
  ];
  const isThere = (path: string) => {
    try {
      return Deno.statSync(path).isFile;
    } catch {
      return false;
    }
  };
  return places.find((path) => path !== undefined && isThere(path)) ?? null;
}

const browser = findBrowser();

/** The document of a page after its scripts ran, and what they wrote to the console. */
async function open(url: string): Promise<{ html: string; console: string[] }> {
  const profile = await Deno.makeTempDir({ prefix: "lorapar-browser-" });
  try {
    const { stdout, stderr } = await new Deno.Command(browser!, {
      args: [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        `--user-data-dir=${profile}`,
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        // Tall, because what is out of sight may not be made.
        "--window-size=1300,8000",
        "--virtual-time-budget=60000",
        "--enable-logging=stderr",
        "--dump-dom",
        url,
      ],
    }).output();
    const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
    const console = text(stderr).split("\n").filter((line) => /\bCONSOLE\b/.test(line));
    return { html: text(stdout), console };
  } finally {
    await Deno.remove(profile, { recursive: true });
  }
}

Deno.test({
  name: "/docs shows every operation, offline, without anything that leaves the server",
  ignore: browser === null,
  fn: async () => {
    await using f = await appFixture();
    const server = Deno.serve(
      { hostname: "127.0.0.1", port: 0, onListen: () => {} },
      f.app.fetch,
    );
    try {
      const { html, console } = await open(`http://127.0.0.1:${server.addr.port}/docs`);
      // Scalar says its name; anything else is a refused request, an error or a warning.
      assertEquals(console.filter((line) => !line.includes('"@scalar/api-reference@')), []);
      for (const text of ["Train an adapter in phases", "/v1/partition", "target_model"]) {
        assert(html.includes(text), `The page does not show "${text}": ${html.slice(0, 2000)}`);
      }
      for (const unwanted of ["Ask AI", "MCP", "Generate SDK", "Open API Client", ">Share<"]) {
        assert(!html.includes(unwanted), `The page shows "${unwanted}"`);
      }
    } finally {
      await server.shutdown();
    }
  },
});
