// The partition: cuts through importances, regions and active elements, and their lists. Whole numbers
// all of them, so they are compared to the bit.

import { compactKnown } from "../compact.ts";
import type { Tensor } from "../gpu/tensor.ts";
import { keptByShare, topShared } from "../reference/select.ts";
import { activateElements, cutSegments, longestSegment, markRegions } from "../regions.ts";
import { selectByShare, selectSharedByCount, selectVariants } from "../select.ts";
import type { OpCheck, Trial } from "./trial.ts";

/** Importances of a few values, so that many are equal, also at the cut. */
const importances = (trial: Trial, elements: number) =>
  trial.normal(elements).map((x) => Math.abs(Math.round(8 * x)) / 7 + 0.125);

const floatBits = (value: number) => new Uint32Array(Float32Array.of(value).buffer)[0];

/** The threshold's bits and the last index kept at it, from what is kept. */
function cutOf(values: Float32Array, kept: Uint8Array): [number, number] {
  const smallest = values.reduce((least, x, i) => kept[i] ? Math.min(least, x) : least, Infinity);
  return [floatBits(smallest), kept.findLastIndex((is, i) => is === 1 && values[i] === smallest)];
}

/** A cut's status, threshold and last index; the other words are the search's own. */
const cutWords = (state: Tensor): Tensor[] =>
  [[0, 1], [4, 2]].map(([first, count]) => ({
    ...state,
    offsetBytes: state.offsetBytes + 4 * first,
    shape: [count],
    sizeBytes: 4 * count,
  }));

const selectCheck: OpCheck = {
  op: "select",
  variants: selectVariants,
  record(trial) {
    const elements = 5003, count = 301;
    const values = importances(trial, elements);
    const codes = Uint8Array.from({ length: elements }, (_, i) => (i * 7) % 5 % 4);
    const importance = trial.input(values), regions = trial.input(codes, [elements], "u8");
    const shared = codes.filter((code) => code === 3).length;
    const cuts: [Tensor, () => Uint8Array][] = [
      [selectByShare(trial.gpu, importance, 0.9).state, () => keptByShare(values, 0.9)],
      [
        selectSharedByCount(trial.gpu, { importance, regions }, count).state,
        () => topShared(values, codes, (count + 0.5) / shared),
      ],
    ];
    for (const [state, kept] of cuts) {
      const [status, cut] = cutWords(trial.hold(state));
      trial.expectExactly(status, () => [0]);
      trial.expectExactly(cut, () => cutOf(values, kept()));
    }
  },
};

const regionsCheck: OpCheck = {
  op: "regions",
  variants: () => ["only"],
  record(trial) {
    const { gpu } = trial;
    // Odd lengths, so that words are shared by several runs; one is past a lane's longest.
    const lengths = [5, 1, 1, 2, 0, 30, 2100];
    const elements = lengths.reduce((sum, length) => sum + length, 0);
    const values = [importances(trial, elements), importances(trial, elements)];
    const [system1, system2] = values.map((importance) => trial.input(importance));
    const importance = { system1, system2 };
    // A cut as select.ts leaves it: above the threshold, and at it up to an index.
    const threshold = values[0][77], last = 900;
    const state = () => trial.input(Uint32Array.of(0, 0, 0, 0, floatBits(threshold), last, 0, 0));
    const selection = { system1: { state: state() }, system2: { state: state() } };
    const segments = cutSegments(gpu, lengths);
    trial.hold(segments.table);
    const regions = trial.output([elements], "u8"), active = trial.output([elements], "u8");
    const counts = trial.output([segments.count, 4], "u32");
    markRegions(gpu, { importance, selection, segments, regions, counts });
    activateElements(gpu, { importance, selection, regions, active });

    const kept = values.map((of) =>
      of.map((x, i) => x > threshold || (x === threshold && i <= last) ? 1 : 0)
    );
    const codes = Uint8Array.from({ length: elements }, (_, i) => kept[0][i] | (kept[1][i] << 1));
    trial.expectExactly(regions, () => codes);
    trial.expectExactly(active, () => codes);
    trial.expectExactly(counts, () => countsOf(codes, lengths, longestSegment(gpu)));
    const list = [...codes.keys()].filter((i) => (codes[i] & 1) !== 0);
    const { indices } = compactKnown(gpu, { codes: active, segments }, 1, list.length);
    trial.expectExactly(trial.hold(indices), () => list);
  },
};

/** How many elements of each code each segment has. */
function countsOf(codes: Uint8Array, lengths: readonly number[], longest: number): number[] {
  let first = 0;
  return lengths.flatMap((length) => {
    const run = codes.subarray(first, first += length);
    const segments = Math.ceil(length / longest);
    return Array.from({ length: segments }, (_, s) => run.subarray(s * longest, (s + 1) * longest))
      .flatMap((segment) => [0, 1, 2, 3].map((code) => segment.filter((c) => c === code).length));
  });
}

export const selectionChecks: readonly OpCheck[] = [selectCheck, regionsCheck];
