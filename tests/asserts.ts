// Assertions about errors. Deno's compare a message with a text only; and given a pattern where they
// expect a class they would pass whatever was thrown.

import { assert, assertRejects as rejects, assertThrows as throws } from "@std/assert";

/** What an error must be: of a class, with a message like this, or one that a check accepts. */
// deno-lint-ignore no-explicit-any
export type Wanted = RegExp | (abstract new (...args: any[]) => Error) | ((error: any) => boolean);

/** Fails unless `run` throws an error that is `wanted`; `about` tells the case. */
export function assertThrows(run: () => unknown, wanted: Wanted = Error, about?: string): void {
  check(throws(run, about), wanted, about);
}

/** Fails unless a promise, or the one that `run` answers, rejects with an error that is `wanted`. */
export async function assertRejects(
  run: PromiseLike<unknown> | (() => PromiseLike<unknown>),
  wanted: Wanted = Error,
  about?: string,
): Promise<void> {
  check(await rejects(typeof run === "function" ? run : () => run, about), wanted, about);
}

function check(error: unknown, wanted: Wanted, about = ""): void {
  assert(error instanceof Error, `${about} What was thrown is no error: ${error}`);
  if (wanted instanceof RegExp) {
    assert(wanted.test(error.message), `${about} ${wanted} does not match: ${error.message}`);
  } else if (wanted === Error || wanted.prototype instanceof Error) {
    assert(error instanceof wanted, `${about} Not a ${wanted.name}: ${error.stack}`);
  } else {
    const isWanted = (wanted as (error: unknown) => boolean)(error);
    assert(isWanted, `${about} Not the wanted error: ${error.stack}`);
  }
}
