import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import {
  countVotes,
  fleissKappa,
  pairwiseAgreement,
  sampleAgreement,
  type TeacherVote,
} from "../../../lib/par/agreement.ts";

const near = (a: number | null, b: number, limit = 1e-12) =>
  assert(a !== null && Math.abs(a - b) <= limit, `${a}, not ${b}`);

Deno.test("fleissKappa: the worked example of 14 raters, 10 subjects and 5 labels", () => {
  // Wikipedia, "Fleiss' kappa": P = 0.378, Pe = 0.213, kappa = 0.210.
  const kappa = fleissKappa([
    [0, 0, 0, 0, 14],
    [0, 2, 6, 4, 2],
    [0, 0, 3, 5, 6],
    [0, 3, 9, 2, 0],
    [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0],
    [3, 2, 6, 3, 0],
    [2, 5, 3, 2, 2],
    [6, 5, 2, 1, 0],
    [0, 2, 2, 3, 7],
  ]);
  near(kappa, 0.20993, 5e-6);
});

Deno.test("fleissKappa: unequal numbers of votes, by hand", () => {
  // (3,0): P 1. (1,1): P 0. (1,2): P 1/3. (0,1) has one vote and is left out.
  // P = 4/9; 5 of 8 and 3 of 8 votes: Pe = 34/64; kappa = (4/9 - 17/32) / (15/32) = -5/27.
  near(fleissKappa([[3, 0], [1, 1], [1, 2], [0, 1]]), -5 / 27);
});

Deno.test("fleissKappa: full agreement, full disagreement, and where it is not defined", () => {
  near(fleissKappa([[3, 0], [0, 3]]), 1);
  near(fleissKappa([[1, 1], [1, 1]]), -1);
  assertEquals(fleissKappa([[3, 0], [2, 0]]), null);
  assertEquals(fleissKappa([[1, 0], [0, 1]]), null);
  assertEquals(fleissKappa([]), null);
});

Deno.test("fleissKappa: the order of samples and of labels makes no difference", () => {
  const rows = fc.array(fc.tuple(fc.nat(5), fc.nat(5)), { minLength: 1 });
  fc.assert(fc.property(rows, (counts) => {
    const kappa = fleissKappa(counts);
    const turned = fleissKappa(counts.toReversed().map(([a, b]) => [b, a]));
    if (kappa === null) assertEquals(turned, null);
    else {
      near(turned, kappa, 1e-9);
      assert(kappa <= 1 + 1e-12);
    }
  }));
});

const votes = (text: string): TeacherVote[] =>
  text.split(" ").filter(Boolean).map((one) => ({
    teacher: one[0],
    vote: one[1] === "1" ? "system1" : one[1] === "2" ? "system2" : null,
  }));

Deno.test("sampleAgreement: the winner's share of the readable votes", () => {
  const share = (text: string) => sampleAgreement(countVotes(votes(text)));
  assertEquals([share("a1 b1 c2 d-"), share("a1 b2"), share("a-"), share("")], [2 / 3, 0.5, 0, 0]);
});

Deno.test("pairwiseAgreement: pairs of votes on the same sample", () => {
  const samples = [votes("a1 b1 c-"), votes("a1 b2 c-"), votes("a2 a1 b2"), votes("a1 b-")];
  // a and b: 1 of 1, 0 of 1, 1 of 2. c never voted.
  assertEquals(pairwiseAgreement(samples, ["a", "b", "c"]), [
    { teachers: ["a", "b"], agreement: 0.5 },
  ]);
});
