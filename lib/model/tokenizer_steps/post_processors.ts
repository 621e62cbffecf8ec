// The special tokens that a tokenizer puts around a text, e.g. BOS in front (rust, processors/). Only one text
// at a time is encoded here, so the parts for pairs are not read.

import { isObject, type Step } from "./step.ts";

/** Ids in front of a text's own and behind them. */
export interface Surroundings {
  before: number[];
  after: number[];
}

/** @throws {InvalidFile} for a step that is damaged, names tokens of other ids, or is not done here */
export function surroundingsOf(
  step: Step,
  idOf: (token: string) => number | undefined,
): Surroundings {
  switch (step.type) {
    case "Sequence":
      return step.steps("processors").map((inner) => surroundingsOf(inner, idOf)).reduce(
        (inner, outer) => ({
          before: [...outer.before, ...inner.before],
          after: [...inner.after, ...outer.after],
        }),
        { before: [], after: [] },
      );
    case "ByteLevel":
      return { before: [], after: [] };
    case "BertProcessing":
    case "RobertaProcessing":
      return { before: [pairOf(step, "cls", idOf)], after: [pairOf(step, "sep", idOf)] };
    case "TemplateProcessing":
      return templateOf(step, idOf);
    default:
      throw step.unknown();
  }
}

/** `["<s>", 0]` */
function pairOf(step: Step, name: string, idOf: (token: string) => number | undefined): number {
  const [token, id] = Array.isArray(step.field(name)) ? step.field(name) as unknown[] : [];
  if (typeof token !== "string" || typeof id !== "number" || idOf(token) !== id) {
    throw step.error(`has ${name} ${JSON.stringify(step.field(name))}, wanted a token and its id`);
  }
  return id;
}

function templateOf(step: Step, idOf: (token: string) => number | undefined): Surroundings {
  const single = step.field("single");
  const specialTokens = step.field("special_tokens");
  if (!Array.isArray(single) || !isObject(specialTokens)) {
    throw step.error("has no single and special_tokens");
  }
  const before: number[] = [];
  let after: number[] | null = null;
  for (const item of single) {
    const { SpecialToken: special, Sequence: sequence } = isObject(item) ? item : {};
    if (isObject(special) && typeof special.id === "string") {
      const entry = Object.hasOwn(specialTokens, special.id) ? specialTokens[special.id] : null;
      const ids = isObject(entry) ? entry.ids : null;
      const id = idOf(special.id);
      if (!Array.isArray(ids) || ids.length !== 1 || id === undefined || ids[0] !== id) {
        throw step.error(
          `puts in the token ${JSON.stringify(special.id)} of ids ${
            JSON.stringify(ids)
          }, the vocabulary has it as ${id}`,
        );
      }
      (after ?? before).push(id);
    } else if (isObject(sequence) && sequence.id === "A" && after === null) {
      after = [];
    } else {
      throw step.error(
        `has ${JSON.stringify(item)?.slice(0, 80)} in single, which is not done here`,
      );
    }
  }
  if (after === null) throw step.error("has no place for the text in single");
  return { before, after };
}
