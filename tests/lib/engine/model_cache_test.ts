// The model cache with a loader that has no GPU, so that every order of loads, claims and evictions can
// be made to happen.

import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { type LoadedModel, ModelCache, type ModelLoader } from "../../../lib/engine/model_cache.ts";
import { createTurns } from "../../../lib/engine/turns.ts";
import { Cancelled, GpuError, InvalidFile } from "../../../lib/errors.ts";
import type { Decoder } from "../../../lib/model/decoder.ts";
import { modelVersion } from "../../../lib/model/model_files.ts";
import type { ModelWeights } from "../../../lib/model/source.ts";
import { assertRejects } from "../../asserts.ts";
import { inFolder, writeHfFolder } from "../model/tiny_model.ts";

/** A model is named by its path; "b2" weighs 2 bytes. */
const sizeOf = (path: string) => Number(path.slice(1));

class FakeLoader implements ModelLoader {
  versions = new Map<string, string>();
  /** Everything that happened, e.g. "load a1", "free a1", "close a1". */
  log: string[] = [];
  /** What `load` and `free` wait for or fail with. */
  loading: () => Promise<void> = () => Promise.resolve();
  freeing: () => Promise<void> = () => Promise.resolve();
  freed = new Set<unknown>();

  version(path: string): Promise<string> {
    return Promise.resolve(this.versions.get(path) ?? "1");
  }

  open(path: string): Promise<ModelWeights> {
    const tensors = new Map([["w", { shape: [1], sizeBytes: sizeOf(path) }]]);
    const close = () => this.log.push(`close ${path}`);
    return Promise.resolve({ path, tensors, close } as unknown as ModelWeights);
  }

  async load(source: ModelWeights): Promise<Decoder> {
    const { path } = source as unknown as { path: string };
    this.log.push(`load ${path}`);
    await this.loading();
    return { path } as unknown as Decoder;
  }

  async free(decoder: Decoder): Promise<void> {
    const { path } = decoder as unknown as { path: string };
    this.freed.add(decoder);
    this.log.push(`free ${path}`);
    await this.freeing();
  }
}

function cacheOf(budgetBytes: number, waitMs = 0) {
  const loader = new FakeLoader();
  const cache = new ModelCache(loader, budgetBytes, waitMs);
  const turns = createTurns();
  const use = <T>(path: string, work: (model: LoadedModel) => Promise<T> | T) =>
    cache.with(path, async (model) => {
      const result = await work(model);
      assert(!loader.freed.has(model.decoder), `${path} was freed under its user`);
      return result;
    }, { turns });
  return { cache, loader, use };
}

/** Starts to use a model and answers once it is loaded, with what ends the use. */
async function hold(use: ReturnType<typeof cacheOf>["use"], path: string) {
  const begun = Promise.withResolvers<LoadedModel>();
  const end = Promise.withResolvers<void>();
  const done = use(path, (model) => {
    begun.resolve(model);
    return end.promise;
  });
  done.catch(begun.reject);
  const model = await begun.promise;
  return {
    model,
    async release() {
      end.resolve();
      await done;
    },
  };
}

const code = (wanted: string) => (error: unknown) =>
  error instanceof GpuError && error.code === wanted;

Deno.test("a model that is claimed while another is evicted stays", async () => {
  const { loader, use } = cacheOf(2);
  await use("a1", () => {});
  await use("b1", () => {});
  const freeing = Promise.withResolvers<void>();
  const freed = Promise.withResolvers<void>();
  loader.freeing = () => {
    freeing.resolve();
    return freed.promise;
  };
  const large = use("c2", () => {});
  await freeing.promise;
  const held = await hold(use, "b1");
  freed.resolve();
  await assertRejects(large, code("memory_in_use"));
  assert(!loader.freed.has(held.model.decoder));
  await held.release();
  assertEquals(loader.log, ["load a1", "load b1", "close a1", "free a1", "close c2"]);
});

Deno.test("an evicted model is loaded anew, and never while it is being freed", async () => {
  const { loader, use } = cacheOf(1, 10_000);
  let freeing = false;
  loader.freeing = async () => {
    freeing = true;
    await new Promise((resolve) => setTimeout(resolve, 5));
    freeing = false;
  };
  loader.loading = () => {
    assert(!freeing, "a load began while another model was freed");
    return Promise.resolve();
  };
  await Promise.all([use("a1", () => {}), use("b1", () => {}), use("a1", () => {})]);
  await use("a1", () => {});
  assertEquals(loader.log.filter((line) => line.startsWith("load")).sort(), [
    "load a1",
    "load a1",
    "load b1",
  ]);
});

Deno.test("two tasks that want one model load it once", async () => {
  const { loader, use } = cacheOf(1);
  const decoders = await Promise.all(
    ["a1", "a1", "a1"].map((path) =>
      use(path, async ({ decoder }) => {
        await new Promise((resolve) => setTimeout(resolve, 1));
        return decoder;
      })
    ),
  );
  assertStrictEquals(new Set(decoders).size, 1);
  assertEquals(loader.log, ["load a1"]);
});

Deno.test("a load that fails is told to everyone who waits for it, and is tried again", async () => {
  const { loader, use } = cacheOf(1);
  const begun = Promise.withResolvers<void>();
  const failure = Promise.withResolvers<void>();
  loader.loading = () => {
    begun.resolve();
    return failure.promise;
  };
  const first = use("a1", () => {});
  await begun.promise;
  const second = use("a1", () => {});
  const told = Promise.all([
    assertRejects(first, InvalidFile),
    assertRejects(second, InvalidFile),
  ]);
  failure.reject(new InvalidFile("Cannot read it."));
  await told;
  loader.loading = () => Promise.resolve();
  await use("a1", () => {});
  assertEquals(loader.log, ["load a1", "close a1", "load a1"]);
});

Deno.test("what does not fit beside the models in use is refused by their names", async () => {
  const { loader, use } = cacheOf(3);
  await use("b1", () => {});
  const held = await hold(use, "a2");
  await assertRejects(
    use("c2", () => {}),
    (error: GpuError) =>
      error.code === "memory_in_use" && /Cannot load c2 now.*\(a2\) take 2 B/.test(error.message),
  );
  // Evicting the idle one would not have made room either.
  assertEquals(loader.log, ["load b1", "load a2", "close c2"]);
  await held.release();
  await use("c2", () => {});
  assertEquals(loader.log.slice(3), ["close b1", "free b1", "close a2", "free a2", "load c2"]);
  await assertRejects(use("d4", () => {}), code("out_of_memory"));
});

Deno.test("a model waits for the memory of one in use, until its task is cancelled", async () => {
  const { cache, loader, use } = cacheOf(1, 10_000);
  const held = await hold(use, "a1");
  const waiting = use("b1", () => "loaded");
  const checkCancelled = () => {
    throw new Cancelled("Cancelled by request.");
  };
  const work = () => Promise.resolve();
  await assertRejects(cache.with("c1", work, { turns: createTurns(), checkCancelled }), Cancelled);
  assertEquals(loader.log.filter((line) => line.startsWith("load")), ["load a1"]);
  await held.release();
  assertStrictEquals(await waiting, "loaded");
});

Deno.test("a model whose files changed is loaded anew, the old one goes with its last user", async () => {
  const { loader, use } = cacheOf(4);
  const old = await hold(use, "a1");
  loader.versions.set("a1", "2");
  const fresh = await hold(use, "a1");
  assert(fresh.model.decoder !== old.model.decoder);
  assertEquals(loader.log, ["load a1", "load a1"]);
  await old.release();
  assertEquals(loader.log.slice(2), ["close a1", "free a1"]);
  assert(loader.freed.has(old.model.decoder));
  await fresh.release();
  await use("a1", ({ decoder }) => assertStrictEquals(decoder, fresh.model.decoder));
  // An idle one goes when its successor is loaded, though there would be room for both.
  loader.versions.set("a1", "3");
  await use("a1", () => {});
  assertEquals(loader.log.slice(4), ["close a1", "free a1", "load a1"]);
});

Deno.test("a model whose files change while it is loaded is refused", async () => {
  const { loader, use } = cacheOf(1);
  loader.loading = () => {
    loader.versions.set("a1", "2");
    return Promise.resolve();
  };
  await assertRejects(use("a1", () => {}), InvalidFile);
  assertEquals(loader.log, ["load a1", "free a1", "close a1"]);
  loader.loading = () => Promise.resolve();
  await use("a1", () => {});
});

Deno.test("a closed cache closes the files of idle models, then of those in use", async () => {
  const { cache, loader, use } = cacheOf(2);
  await use("a1", () => {});
  const held = await hold(use, "b1");
  cache.close();
  await held.release();
  // Not freed: the device is gone.
  assertEquals(loader.log, ["load a1", "load b1", "close a1", "close b1"]);
});

Deno.test("a model's version follows its files", async () => {
  await inFolder(async (folder) => {
    await writeHfFolder(folder);
    const seen = new Set([await modelVersion(folder)]);
    const again = async (change: () => Promise<unknown>, isNew = true) => {
      await change();
      const version = await modelVersion(folder);
      assertStrictEquals(seen.has(version), !isNew);
      seen.add(version);
    };
    await again(() => Deno.writeTextFile(`${folder}/README.md`, "none of the model's"), false);
    await again(() => Deno.writeTextFile(`${folder}/tokenizer_config.json`, "{}"));
    await again(() => Deno.utime(`${folder}/model.safetensors`, 1, 1));
    await again(() => Deno.writeTextFile(`${folder}/chat_template.jinja`, "{}"));
    await again(() => Deno.remove(`${folder}/chat_template.jinja`), false);
    // Another file of the same size and time, moved into place.
    const { mtime } = await Deno.stat(`${folder}/config.json`);
    await again(async () => {
      await Deno.copyFile(`${folder}/config.json`, `${folder}/other`);
      await Deno.utime(`${folder}/other`, mtime!, mtime!);
      await Deno.rename(`${folder}/other`, `${folder}/config.json`);
    }, Deno.build.os !== "windows");
    const file = await modelVersion(`${folder}/model.safetensors`);
    await Deno.utime(`${folder}/model.safetensors`, 2, 2);
    assert(await modelVersion(`${folder}/model.safetensors`) !== file);
    await assertRejects(modelVersion(`${folder}/none`), InvalidFile);
  });
});
