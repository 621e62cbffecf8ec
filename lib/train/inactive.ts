// The promise of LoRA-PAR's partition, checked at the end of a training: an element that no phase trains
// has every bit it started with. A kernel that breaks it breaks the method, so the training fails.

import { NumericError } from "../errors.ts";

/**
 * Compares an adapter's values before and after its phases, (E) f32 each. `active` (E) u8 holds each
 * element's bits, 1 for System 1 and 2 for System 2, and `trained` the bits that some phase moved.
 * @throws {NumericError} when an element with none of them is not bit for bit what it was.
 */
export function requireInactiveUnchanged(
  before: Float32Array<ArrayBuffer>,
  after: Float32Array<ArrayBuffer>,
  active: Uint8Array,
  trained: number,
): void {
  const start = new Uint32Array(before.buffer, before.byteOffset, before.length);
  const end = new Uint32Array(after.buffer, after.byteOffset, after.length);
  let changed = 0, inactive = 0, first = -1;
  for (let i = 0; i < start.length; i++) {
    if ((active[i] & trained) !== 0) continue;
    inactive++;
    if (start[i] === end[i]) continue;
    if (changed++ === 0) first = i;
  }
  if (changed === 0) return;
  throw new NumericError(
    `Cannot keep the adapter: ${changed} of ${inactive} inactive elements changed, the first of them ` +
      `element ${first} (${before[first]} to ${
        after[first]
      }), and none may. A kernel is wrong on this ` +
      "GPU: run the doctor command and report what it says.",
    null,
    "inactive_elements_changed",
  );
}
