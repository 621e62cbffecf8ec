// Checks an op whose first variant ends the process, as a driver can. Argument: the record.
//   deno run -A tests/kernels/check/dies_while_checking.ts RECORD
import { guardKernels, requireOps } from "../../../kernels/check/self_check.ts";
import type { OpCheck } from "../../../kernels/check/trial.ts";
import { openGpu } from "../../../kernels/gpu/gpu.ts";

const fill: OpCheck = {
  op: "fill",
  variants: () => ["deadly", "harmless"],
  record(trial, variant) {
    const y = trial.output([4]);
    trial.gpu.run(
      {
        label: `fill.${variant}`,
        code: `@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(4)
fn main(@builtin(local_invocation_index) lane: u32) { y[lane] = ${variant.length}.0; }`,
        entryPoint: "main",
      },
      [y],
      [1],
    );
    // Asked for once the dispatch was run, not when it is only planned.
    trial.expect(y, () => {
      if (variant === "deadly") Deno.kill(Deno.pid, "SIGKILL");
      return new Array(4).fill(variant.length);
    });
  },
};

const gpu = await openGpu();
await guardKernels(gpu, Deno.args[0]);
await requireOps(gpu, [fill]);
console.log(JSON.stringify(Object.fromEntries(gpu.verdicts)));
gpu.close();
