import { scatterElements } from "../../../lib/par/scatter.ts";
import { assert, assertEquals, assertStrictEquals } from "../../asserts.ts";

const regions = Uint8Array.from(
  { length: 100_000 },
  (_, i) => i === 77_777 ? 2 : i % 10 < 6 ? 0 : i % 10 < 9 ? 3 : 1,
);

Deno.test("scatter: every region has its share of the points, a rare one at least one", () => {
  const points = scatterElements(regions, 2000);
  assertStrictEquals(points.length, 2000);
  assertEquals(points, scatterElements(regions, 2000));
  assert(points.every((index, i) => i === 0 || index > points[i - 1]));
  const count = (code: number) => points.filter((index) => regions[index] === code).length;
  for (const [code, share] of [[0, 1200], [1, 200], [2, 1], [3, 600]]) {
    assert(Math.abs(count(code) - share) <= 1, `region ${code} has ${count(code)}`);
  }
  // Spread over the whole, and not on one column of a matrix.
  for (let tenth = 0; tenth < 10; tenth++) {
    const inside = points.filter((index) => Math.floor(index / 10_000) === tenth).length;
    assert(Math.abs(inside - 200) < 10, `${inside} points in tenth ${tenth}`);
  }
  const ofShared = points.filter((index) => regions[index] === 3);
  for (const column of [6, 7, 8]) {
    const found = ofShared.filter((index) => index % 10 === column).length;
    assert(found > 120 && found < 280, `${found} of ${ofShared.length} in column ${column}`);
  }
});

Deno.test("scatter: few points, no points, more points than elements", () => {
  assertStrictEquals(scatterElements(regions, 3).length, 3);
  assertStrictEquals(scatterElements(regions, 0).length, 0);
  assertStrictEquals(scatterElements(new Uint8Array(0), 10).length, 0);
  const few = Uint8Array.of(0, 3, 3, 1, 0);
  assertEquals([...scatterElements(few, 2000)], [0, 1, 2, 3, 4]);
  assertEquals([...scatterElements(few, 5)], [0, 1, 2, 3, 4]);
  assertStrictEquals(new Set(scatterElements(few, 4)).size, 4);
});
