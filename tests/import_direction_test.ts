import { assert, assertEquals } from "@std/assert";
// Imports point one way: main, commands -> routes -> jobs -> engine -> {par, train} -> {model, lora, data}
// -> kernels -> gpu. lib/errors.ts and lib/json_text.ts are free to all; only routes/ knows Hono.

const root = new URL("../", import.meta.url);

/** Layers from the top; an import goes to its own layer or further down. */
const layers = [
  ["main.ts", "commands", "demo"],
  ["routes", "web"],
  ["lib/jobs"],
  ["lib/engine"],
  ["lib/par", "lib/train"],
  ["lib/model", "lib/lora", "lib/data"],
  ["kernels"],
  ["kernels/gpu"],
];

const freeToAll = ["lib/errors.ts", "lib/json_text.ts", "lib/seeds.ts", "deno.json"];

/** `lib/jobs/store.ts` is of `lib/jobs`, `kernels/gpu/gpu.ts` of `kernels/gpu`, `main.ts` of itself. */
function folderOf(path: string): string {
  const folders = layers.flat().filter((one) => path === one || path.startsWith(`${one}/`));
  return folders.sort((a, b) => b.length - a.length)[0] ?? path;
}

function rankOf(folder: string): number {
  return layers.findIndex((layer) => layer.includes(folder));
}

function* sourceFiles(folder: string): Generator<string> {
  for (const entry of Deno.readDirSync(new URL(folder || ".", root))) {
    const path = folder ? `${folder}/${entry.name}` : entry.name;
    const isSource = layers.flat().some((one) => path.startsWith(one) || one.startsWith(path));
    if (!isSource) continue;
    if (entry.isDirectory) yield* sourceFiles(path);
    else if (/\.tsx?$/.test(entry.name) && !entry.name.endsWith("_test.ts")) yield path;
  }
}

/** What a source file imports: paths inside the repository, and names of packages. */
function importsOf(path: string, source: string): { local: string[]; packages: string[] } {
  const code = source.replace(/\/\*[\s\S]*?\*\//g, "").replace(/^\s*\/\/.*$/gm, "");
  const found = [
    ...code.matchAll(/\b(?:import|export)\s[^"';]*?\bfrom\s*["']([^"']+)["']/g),
    ...code.matchAll(/\bimport\s*\(?\s*["']([^"']+)["']/g),
  ].map((match) => match[1]!);
  const isLocal = (specifier: string) => specifier.startsWith(".");
  return {
    local: found.filter(isLocal).map((specifier) =>
      new URL(specifier, new URL(path, root)).href.slice(root.href.length)
    ),
    packages: found.filter((specifier) => !isLocal(specifier)),
  };
}

const files = [...sourceFiles("")].map((path) => ({
  path,
  ...importsOf(path, Deno.readTextFileSync(new URL(path, root))),
}));

Deno.test("the walk sees the sources and their imports", () => {
  const paths = files.map((file) => file.path);
  for (const path of ["lib/jobs/store.ts", "routes/app.ts", "kernels/gpu/gpu.ts"]) {
    assert(paths.includes(path), path);
  }
  const { local, packages } = importsOf(
    "lib/jobs/x.ts",
    `import a, { b } from "./a.ts";\nimport {\n  type C,\n} from "../errors.ts";\n` +
      `import "./side.ts";\nexport { d } from "hono";\nawait import("./late.ts");\n` +
      `import code from "../../kernels/x.wgsl" with { type: "text" };\n// import "./no.ts";\n`,
  );
  assertEquals(local.toSorted(), [
    "kernels/x.wgsl",
    "lib/errors.ts",
    "lib/jobs/a.ts",
    "lib/jobs/late.ts",
    "lib/jobs/side.ts",
  ]);
  assertEquals(packages, ["hono"]);
});

Deno.test("no file imports from a layer above its own", () => {
  const wrong = files.flatMap(({ path, local }) =>
    local.filter((target) => {
      if (freeToAll.includes(target)) return false;
      const to = rankOf(folderOf(target));
      return to < 0 || to < rankOf(folderOf(path));
    }).map((target) => `${path} -> ${target}`)
  );
  assertEquals(wrong, []);
});

Deno.test("files do not import each other in a circle", () => {
  const edges = new Map(files.map(({ path, local }) => [path, local]));
  const done = new Set<string>();
  const visit = (path: string, trail: string[]): string[] | null => {
    if (trail.includes(path)) return [...trail.slice(trail.indexOf(path)), path];
    if (done.has(path)) return null;
    for (const next of edges.get(path) ?? []) {
      const circle = visit(next, [...trail, path]);
      if (circle) return circle;
    }
    done.add(path);
    return null;
  };
  for (const path of edges.keys()) assertEquals(visit(path, []), null);
});

Deno.test("only routes knows Hono", () => {
  const wrong = files
    .filter(({ path }) => !path.startsWith("routes/"))
    .filter(({ packages }) =>
      packages.some((name) => /^(@hono\/|hono(\/|$)|@scalar\/)/.test(name))
    );
  assertEquals(wrong.map((file) => file.path), []);
});

Deno.test("every package of the import map is used", async () => {
  const { imports, compilerOptions } = JSON.parse(
    await Deno.readTextFile(new URL("deno.json", root)),
  ) as { imports: Record<string, string>; compilerOptions: { types: string[] } };
  const everything = new Set(compilerOptions.types);
  for (const folder of ["", "tests", "bench", "tools"]) {
    for (const path of sourcesUnder(folder)) {
      const { packages } = importsOf(path, Deno.readTextFileSync(new URL(path, root)));
      packages.forEach((name) => everything.add(name));
    }
  }
  const unused = Object.keys(imports).filter((name) =>
    ![...everything].some((used) => used === name || used.startsWith(`${name}/`))
  );
  assertEquals(unused, []);
});

/** The sources of the project and of its tests; "" stands for what `files` has. */
function* sourcesUnder(folder: string): Generator<string> {
  if (folder === "") return yield* files.map(({ path }) => path);
  for (const entry of Deno.readDirSync(new URL(folder, root))) {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory) yield* sourcesUnder(path);
    else if (entry.name.endsWith(".ts")) yield path;
  }
}
