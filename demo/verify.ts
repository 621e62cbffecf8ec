// Looks into what the demo downloaded: unpacks the adapter and counts, bit by bit, the LoRA elements
// that moved from the partition's starting values. It trusts nothing the training says about itself.

import { openSafetensors, type SafetensorsFile } from "../lib/model/safetensors.ts";

/** The plain files of a tar archive (POSIX ustar), by name; folders and links are left out. */
export function untar(archive: Uint8Array<ArrayBuffer>): Map<string, Uint8Array<ArrayBuffer>> {
  const files = new Map<string, Uint8Array<ArrayBuffer>>();
  const text = (begin: number, length: number) =>
    new TextDecoder().decode(archive.subarray(begin, begin + length)).split("\0")[0];
  for (let at = 0; archive[at] !== 0;) {
    const sizeBytes = parseInt(text(at + 124, 12), 8);
    const type = text(at + 156, 1);
    const name = text(at, 100);
    const begin = at + 512;
    // Empty blocks mark the end, so a header past the last byte is one that was cut off.
    if (!(begin + sizeBytes <= archive.length) || !/^[\w.-]+$/.test(name)) {
      throw new Error(`Cannot unpack "${name}" of ${sizeBytes} bytes: the archive is damaged`);
    }
    if (type === "0" || type === "") files.set(name, archive.slice(begin, begin + sizeBytes));
    at = begin + Math.ceil(sizeBytes / 512) * 512;
  }
  return files;
}

export interface Moves {
  /** Elements of region 0, which no phase may move, and how many of them differ in any bit. */
  inactive: number;
  inactiveChanged: number;
  /** Elements of the other regions, and how many of them differ. */
  active: number;
  activeChanged: number;
}

/**
 * Compares a PEFT adapter with the partition it was trained on.
 * @throws {Error} when the two have not the same tensors.
 */
export function countMoves(adapterPath: string, partitionPath: string): Moves {
  const adapter = openSafetensors(adapterPath);
  const partition = openSafetensors(partitionPath);
  try {
    const names = [...partition.tensors.keys()].filter((name) => name.endsWith(".region"))
      .map((name) => name.slice(0, -".region".length));
    if (names.length === 0 || names.length !== adapter.tensors.size) {
      throw new Error(
        `Cannot compare ${adapter.tensors.size} tensors of the adapter with ${names.length} of the ` +
          "partition: it is another adapter's",
      );
    }
    const moves = { inactive: 0, inactiveChanged: 0, active: 0, activeChanged: 0 };
    for (const name of names) addMoves(moves, name, adapter, partition);
    return moves;
  } finally {
    adapter.close();
    partition.close();
  }
}

function addMoves(
  moves: Moves,
  name: string,
  adapter: SafetensorsFile,
  partition: SafetensorsFile,
): void {
  const now = bitsOf(adapter, `base_model.model.${name}`);
  const then = bitsOf(partition, `${name}.initial`);
  const region = partition.read(`${name}.region`).bytes;
  if (now.length !== then.length || now.length !== region.length) {
    throw new Error(`Cannot compare ${name}: ${now.length} elements against ${region.length}`);
  }
  for (let i = 0; i < now.length; i++) {
    const changed = now[i] === then[i] ? 0 : 1;
    if (region[i] === 0) {
      moves.inactive++;
      moves.inactiveChanged += changed;
    } else {
      moves.active++;
      moves.activeChanged += changed;
    }
  }
}

function bitsOf(file: SafetensorsFile, name: string): Uint32Array {
  const { dtype, bytes } = file.read(name);
  if (dtype !== "F32") {
    throw new Error(`Cannot compare ${name} bit by bit: it is ${dtype}, not F32`);
  }
  return new Uint32Array(bytes.slice().buffer);
}
