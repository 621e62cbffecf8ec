// Writes reach the GPU as views: older runtimes know no offset and size beside the data.

import { assertEquals } from "@std/assert";
import { openGpu } from "../../../kernels/gpu/gpu.ts";

Deno.test("parts of arrays are written, of any length, without writeBuffer's last two arguments", async () => {
  const gpu = await openGpu();
  const { queue } = gpu.device;
  const writeBuffer = queue.writeBuffer.bind(queue);
  queue.writeBuffer = (buffer, offset, data, ...rest) => {
    if (rest.length > 0) throw new TypeError("writeBuffer takes a buffer, an offset and the data");
    writeBuffer(buffer, offset, data);
  };
  const whole = Float32Array.from({ length: 9 }, (_, i) => i);
  const floats = gpu.upload("floats", whole.subarray(3, 7));
  assertEquals([...await gpu.readFloats(floats)], [3, 4, 5, 6]);
  const codes = gpu.upload(
    "codes",
    Uint8Array.from([9, 1, 2, 3, 4, 5, 9, 9, 9, 9, 9]).subarray(1, 6),
    [5],
    "u8",
  );
  const [words] = await gpu.readWords([codes]);
  assertEquals([...new Uint8Array(words)], [1, 2, 3, 4, 5, 0, 0, 0]);
  gpu.close();
});
