// Types of what is used of Deno's standard library. JSR's packages bring their own; npm's `deno-std`, which
// the import map names because JSR is not reachable everywhere, has none. With "jsr:@std/assert@1" and
// "jsr:@std/fmt@1/bytes" there, this file goes.

declare module "@std/assert" {
  /** Fails unless `value` is true or like it. */
  export function assert(value: unknown, message?: string): asserts value;
  /** Fails unless both are equal, part by part. */
  export function assertEquals<T>(actual: T, expected: T, message?: string): void;
  /** Fails unless both are the same value or object. */
  export function assertStrictEquals<T>(
    actual: unknown,
    expected: T,
    message?: string,
  ): asserts actual is T;
  /** Fails unless `run` throws; answers what it threw. */
  export function assertThrows(run: () => unknown, message?: string): unknown;
  /** Fails unless `run`'s promise rejects; answers why. */
  export function assertRejects(
    run: () => PromiseLike<unknown>,
    message?: string,
  ): Promise<unknown>;
}

declare module "@std/fmt/bytes" {
  /** A number of bytes for people: `format(1536, { binary: true })` is "1.5 KiB". */
  export function format(bytes: number, options?: { binary?: boolean }): string;
}
