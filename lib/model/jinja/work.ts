// What the rendering under way may still take: a template comes from outside, and one that would not end, or
// would take all memory, is stopped. A rendering runs without a pause, so there is one of them at a time.

/** About a second of work; the templates of released models take a thousandth for a chat of twenty turns. */
const all = 2 ** 27;
let left = all;

/** What one node of a template costs, where one character that is gone through costs 1. */
export const stepCost = 128;
/** What one entry that is compared or copied costs. */
export const entryCost = 8;

/** Begins a rendering. */
export function startWork(): void {
  left = all;
}

/** @throws {Error} when the rendering has used up what it may take */
export function spend(amount: number): void {
  left -= amount;
  if (left < 0) throw new Error("it takes too many steps or goes through too much text");
}
