import { assert, assertEquals } from "@std/assert";
import {
  generationChecks,
  modelChecks,
  trainingChecks,
  weightChecks,
} from "../../../kernels/check/ops.ts";
import { checkOps, guardKernels, requireOps } from "../../../kernels/check/self_check.ts";
import type { OpCheck, Trial } from "../../../kernels/check/trial.ts";
import { type Gpu, openGpu } from "../../../kernels/gpu/gpu.ts";
import type { Kernel } from "../../../kernels/gpu/pipelines.ts";
import { isUsable, variantOf } from "../../../kernels/gpu/variants.ts";
import { variantKey } from "../../../kernels/gpu/verdict.ts";
import { canBroadcast, matmulOp } from "../../../kernels/weight.ts";
import { GpuError } from "../../../lib/errors.ts";
import { pass, uploadBatch } from "../../../lib/model/pass.ts";
import { assertRejects, assertThrows } from "../../asserts.ts";
import { asHardware } from "../../as_hardware.ts";
import { openGolden } from "../../golden.ts";
import { assertClose, testGpu } from "../../gpu.ts";

/** An elementwise kernel for y = 2 x over 1001 numbers, or something else for it. */
const doubling = (statement: string, { count = 1001, lanes = 64 } = {}): Kernel => ({
  label: "test.double",
  code: `@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(${lanes})
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x >= ${count}u) { return; }
  ${statement}
}`,
  entryPoint: "main",
});

/** Kernels of an op "double" by the name of the variant. */
const kernels: Record<string, Kernel> = {
  right: doubling("y[id.x] = 2.0 * x[id.x];"),
  also_right: doubling("y[id.x] = x[id.x] + x[id.x];"),
  wrong: doubling("y[id.x] = 2.0 * x[id.x] + select(0.0, 1e-2, id.x == 1000u);"),
  unwritten: doubling("y[id.x] = 2.0 * x[id.x];", { count: 1000 }),
  past_the_end: doubling("y[id.x] = 2.0 * x[min(id.x, 1000u)];", { count: 1002 }),
  misspelt: doubling("y[id.x] = nonsense;"),
  too_wide: doubling("y[id.x] = 2.0 * x[id.x];", { lanes: 65536 }),
};

/** y = 2 x by some of these kernels, or by one that cannot be recorded. */
function double(...variants: string[]): OpCheck {
  return {
    op: "double",
    variants: () => variants,
    record(trial: Trial, variant: string) {
      const x = trial.normal(1001), y = trial.output([1001]);
      trial.weight("f32", [4, 4]);
      if (variant === "impossible") throw new RangeError("Cannot record it");
      trial.gpu.run(kernels[variant], [trial.input(x), y], [16]);
      trial.expect(y, () => x.map((value) => 2 * value));
    },
  };
}

async function withGpu(work: (gpu: Gpu) => Promise<void>, record: string | null = null) {
  const gpu = await openGpu();
  try {
    await guardKernels(gpu, record);
    await work(gpu);
    await gpu.sync();
  } finally {
    gpu.close();
  }
}

const reasonOf = (gpu: Gpu, variant: string) => {
  const verdict = gpu.verdicts.get(variantKey("double", variant));
  assert(verdict && !verdict.right, `${variant} was found right`);
  return verdict.reason;
};

const all = [
  ...modelChecks,
  ...weightChecks("f32"),
  ...[1, 2, 3, 4, 5].flatMap(generationChecks),
  ...trainingChecks,
];
/** Compares every variant that the adapter would take, whichever kind it is taken for. */
async function compareAll(gpu: Gpu, check: OpCheck) {
  for (const variant of check.variants(gpu)) {
    await checkOps(gpu, [{ ...check, variants: () => [variant] }]);
    const key = variantKey(check.op, variant), verdict = gpu.verdicts.get(key);
    gpu.verdicts.delete(key);
    assert(verdict?.right, `${variant}: ${JSON.stringify(verdict)}`);
  }
}

for (const check of new Map(all.map((check) => [check.op, check])).values()) {
  Deno.test(`self-check of ${check.op}: every variant is right here, also a GPU's`, async () => {
    const gpu = await testGpu();
    await compareAll(gpu, check);
    await asHardware(() => compareAll(gpu, check));
  });
}

Deno.test("a wrong variant is left out, and why is said", () =>
  withGpu(async (gpu) => {
    const bad = ["wrong", "unwritten", "past_the_end", "misspelt", "too_wide", "impossible"];
    await requireOps(gpu, [double(...bad, "right", "also_right")]);
    assert(/off f64's by an NMSE of \d/.test(reasonOf(gpu, "wrong")));
    assert(/NMSE of NaN/.test(reasonOf(gpu, "unwritten")));
    assert(/wrote past the end/.test(reasonOf(gpu, "past_the_end")));
    assert(/Cannot compile test\.double: line 6:\d+: /.test(reasonOf(gpu, "misspelt")));
    assert(/refused|Cannot compile/.test(reasonOf(gpu, "too_wide")));
    assertEquals(reasonOf(gpu, "impossible"), "Cannot record it");
    // The first right one is taken, and nothing after it was tried.
    assertEquals(variantOf(gpu, "double", [...bad, "right", "also_right"]), "right");
    assertEquals(isUsable(gpu, "double", "also_right"), false);
    assert(!gpu.failed);
    assertEquals(gpu.pool.memory.usedBytes, 0);
  }));

Deno.test("a choice that was found wrong is not taken", () =>
  withGpu(async (gpu) => {
    await requireOps(gpu, [double("wrong", "right")]);
    gpu.choices.set("double", "wrong");
    assertEquals(variantOf(gpu, "double", ["wrong", "right"]), "right");
  }));

Deno.test("an op that nothing computes rightly is refused by op and adapter", () =>
  withGpu(async (gpu) => {
    const wanted = (error: Error) =>
      error instanceof GpuError && error.message.includes(gpu.facts.description) &&
      /Cannot compute double on .*wrong: .*NMSE.*misspelt: /s.test(error.message);
    await assertRejects(() => requireOps(gpu, [double("wrong", "misspelt")]), wanted);
    // Asking again does not make it right.
    await assertRejects(() => requireOps(gpu, [double("wrong", "misspelt")]), wanted);
    assertThrows(() => variantOf(gpu, "double", ["wrong", "misspelt"]), wanted);
  }));

Deno.test("a guarded device runs no kernel that was not found right", () =>
  withGpu(async (gpu) => {
    const x = gpu.zeros("x", [1001]), y = gpu.zeros("y", [1001]);
    const run = (variant: string) => gpu.run(kernels[variant], [x, y], [16]);
    assertThrows(() => run("right"), /Cannot use test\.double on .*not seen to compute rightly/);
    await requireOps(gpu, [double("wrong", "right")]);
    run("right");
    assertThrows(() => run("wrong"), GpuError);
    // The same text under another name is the same kernel.
    gpu.run({ ...kernels.right, label: "other" }, [x, y], [16]);
    gpu.release(x, y);
  }));

Deno.test("what was found is kept: for the same kernels nothing runs again", async () => {
  const record = await Deno.makeTempFile({ suffix: ".json" });
  const dispatchesOf = async (check: OpCheck) => {
    let dispatches = 0;
    await withGpu(async (gpu) => {
      await requireOps(gpu, [check]);
      dispatches = gpu.dispatches;
      assertEquals(variantOf(gpu, "double", ["wrong", "right"]), "right");
      const x = gpu.zeros("x", [1001]), y = gpu.zeros("y", [1001]);
      gpu.run(kernels.right, [x, y], [16]);
      assertThrows(() => gpu.run(kernels.wrong, [x, y], [16]), GpuError);
      gpu.release(x, y);
    }, record);
    return dispatches;
  };
  const check = double("wrong", "right");
  assertEquals(await dispatchesOf(check), 2);
  assertEquals(await dispatchesOf(check), 0);
  const { wrong } = kernels;
  kernels.wrong = doubling("y[id.x] = 3.0 * x[id.x];");
  assertEquals(await dispatchesOf(check), 1, "a changed kernel is compared again");
  kernels.wrong = wrong;
  await Deno.remove(record);
});

const ignore = !canBroadcast(await testGpu());
Deno.test("a wrong broadcast is left out: weights lie in buffers, log-probabilities are right", {
  ignore,
}, () =>
  withGpu(async (gpu) => {
    const { run } = gpu;
    // As on an adapter that loses the last four products of every sum; `inner` is the third parameter.
    gpu.run = (kernel, bindings, workgroups, params) =>
      run.call(
        gpu,
        kernel,
        bindings,
        workgroups,
        kernel.label.startsWith("matmul_broadcast")
          ? params?.map((word, i) => i === 2 ? word - 4 : word)
          : params,
      );
    const { decoder, adapter, packed, floats, integers } = await openGolden(gpu, "llama_gqa_tied");
    const op = matmulOp(decoder.head.dtype);
    assertEquals(isUsable(gpu, op, "broadcast"), false);
    assertEquals(decoder.head.texture, null);
    const batch = uploadBatch(gpu, decoder, packed(""));
    const values = gpu.tensor("values", [batch.M, 4]);
    pass(gpu, { decoder, adapter }, { batch, values });
    const mask = integers("loss_mask");
    assertClose(
      (await gpu.readFloats(values)).filter((_, i) => i % 4 === 0),
      floats("logps").filter((_, t) => mask[t] === 1),
    );
  }));
