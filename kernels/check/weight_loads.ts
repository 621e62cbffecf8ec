// Whether weights can be read from textures: a kernel of a line, before the products of a type are
// compiled for seconds to fail all for this one reason.

import { weightLoadsOp, weightLoadVariants } from "../weight.ts";
import type { OpCheck } from "./trial.ts";
import code from "./weight_loads.wgsl" with { type: "text" };

export const weightLoadsCheck: OpCheck = {
  op: weightLoadsOp,
  variants: weightLoadVariants,
  record(trial, variant) {
    const [height, width] = [13, 37], count = height * width;
    const words = new Uint32Array(trial.normal(4 * count).buffer);
    const source = variant === "texture" ? trial.texture(words, height, width) : trial.input(words);
    const y = trial.output([4 * count], "u32");
    trial.gpu.run(
      { label: `weight_loads.${variant}`, code, entryPoint: `from_${variant}` },
      [source, y],
      [Math.ceil(count / 64)],
      [width, count],
    );
    trial.expectExactly(y, () => words);
  },
};
