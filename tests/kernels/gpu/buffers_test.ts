// The pool's scopes: what fails gives back what it took, and nothing else.

import { assertStrictEquals } from "@std/assert";
import type { Tensor } from "../../../kernels/gpu/tensor.ts";
import { assertThrows } from "../../asserts.ts";
import { testGpu } from "../../gpu.ts";

Deno.test("a scope releases what it holds when it fails, and keeps it when it does not", async () => {
  const gpu = await testGpu();
  const used = () => gpu.pool.memory.usedBytes;
  const before = used();
  const kept = gpu.scope(() => {
    const inner = gpu.scope(() => gpu.tensor("inner", [256]));
    gpu.release(gpu.tensor("passing", [256]));
    return inner;
  });
  assertStrictEquals(used(), before + 1024);
  const fail = () => {
    throw new Error("refused");
  };
  assertThrows(() =>
    gpu.scope(() => {
      gpu.tensor("lost", [256]);
      // Released inside, and what a scope within has answered is this one's.
      gpu.release(gpu.scope(() => gpu.tensor("released", [512])));
      gpu.scope(() => gpu.tensor("handed out", [1024]));
      // Another's tensor is released once, not twice.
      gpu.release(kept);
      fail();
    }), /refused/);
  assertStrictEquals(used(), before);
});

Deno.test("a failed scope within another leaves the outer one's tensors", async () => {
  const gpu = await testGpu();
  const used = () => gpu.pool.memory.usedBytes;
  const before = used();
  const outer = gpu.scope(() => {
    const tensor = gpu.tensor("outer", [256]);
    assertThrows(() =>
      gpu.scope(() => {
        gpu.tensor("inner", [256]);
        throw new Error("refused");
      })
    );
    return tensor;
  });
  assertStrictEquals(used(), before + 1024);
  gpu.release(outer);
  assertStrictEquals(used(), before);
});

Deno.test("what is to last outlives the scope that grows it", async () => {
  const gpu = await testGpu();
  const used = () => gpu.pool.memory.usedBytes;
  const before = used();
  const lasting: Tensor[] = [];
  assertThrows(() =>
    gpu.scope(() => {
      lasting.push(gpu.lasting(() => gpu.tensor("table", [256])));
      gpu.tensor("lost", [256]);
      throw new Error("refused");
    })
  );
  assertStrictEquals(used(), before + 1024);
  gpu.release(...lasting);
});
