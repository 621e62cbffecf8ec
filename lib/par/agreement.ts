// How far voters agree. Per sample: the share of its votes that the winning label has. Per pair of
// teachers: the share of their pairs of votes on one sample that are equal. Over the set: Fleiss' kappa
// (Psychological Bulletin 76, 1971), kappa = (P - Pe) / (1 - Pe), where abstentions leave n_i votes on
// sample i, so that, over the samples with n_i >= 2 votes,
//   P  = mean_i sum_j n_ij (n_ij - 1) / (n_i (n_i - 1)),   Pe = sum_j (sum_i n_ij / sum_i n_i)^2,
// which is Fleiss' own formula where all n_i are equal. Left out: confidence intervals.

import type { System } from "../data/record.ts";

/** A teacher's vote on a sample; null when the reply could not be read. */
export interface TeacherVote {
  teacher: string;
  vote: System | null;
}

export interface Counts {
  system1: number;
  system2: number;
}

/** The readable votes by label. */
export function countVotes(votes: TeacherVote[]): Counts {
  const count = (label: System) => votes.filter(({ vote }) => vote === label).length;
  return { system1: count("system1"), system2: count("system2") };
}

/** The share of the readable votes that the label with more of them has; 0 without any. */
export function sampleAgreement({ system1, system2 }: Counts): number {
  const total = system1 + system2;
  return total === 0 ? 0 : Math.max(system1, system2) / total;
}

/** For each pair of teachers that voted on a common sample, the share of their votes that agree. */
export function pairwiseAgreement(
  votesPerSample: TeacherVote[][],
  teachers: string[],
): { teachers: [string, string]; agreement: number }[] {
  const pairs: { teachers: [string, string]; agreement: number }[] = [];
  for (const [index, first] of teachers.entries()) {
    for (const second of teachers.slice(index + 1)) {
      let equal = 0, total = 0;
      for (const votes of votesPerSample) {
        const a = countVotes(votes.filter(({ teacher }) => teacher === first));
        const b = countVotes(votes.filter(({ teacher }) => teacher === second));
        equal += a.system1 * b.system1 + a.system2 * b.system2;
        total += (a.system1 + a.system2) * (b.system1 + b.system2);
      }
      if (total > 0) pairs.push({ teachers: [first, second], agreement: equal / total });
    }
  }
  return pairs;
}

/**
 * Fleiss' kappa from `counts` (samples, labels), the votes a sample has for each label; null when no
 * sample has two votes or all votes are for one label, where it is not defined.
 */
export function fleissKappa(counts: number[][]): number | null {
  const sum = (values: number[]) => values.reduce((total, value) => total + value, 0);
  const rated = counts.filter((row) => sum(row) >= 2);
  if (rated.length === 0) return null;
  const observed = sum(rated.map((row) => {
    const votes = sum(row);
    return sum(row.map((count) => count * (count - 1))) / (votes * (votes - 1));
  })) / rated.length;
  const all = sum(rated.map(sum));
  const labels = rated[0].map((_, label) => sum(rated.map((row) => row[label])));
  if (labels.includes(all)) return null;
  const expected = sum(labels.map((count) => (count / all) ** 2));
  return (observed - expected) / (1 - expected);
}
