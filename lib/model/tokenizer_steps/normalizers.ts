// What is done to a text before it is cut, as Hugging Face's `tokenizers` does it (rust, normalizers/). Left
// out, and refused by name: Bert's and SentencePiece's precompiled one, which the Llama family does not use.

import { replaceAll, type Step } from "./step.ts";

export type Normalizer = (text: string) => string;

/** Unicode's White_Space, which JavaScript's trim() is not. */
const leadingSpace = /^\p{White_Space}+/u;
/** The look-behind has each run of space tried once. */
const trailingSpace = /(?<!\p{White_Space})\p{White_Space}+$/u;

/** @throws {InvalidFile} for a step that is damaged or not done here */
export function normalizerOf(step: Step): Normalizer {
  switch (step.type) {
    case "Sequence": {
      const steps = step.steps("normalizers").map(normalizerOf);
      return (text) => steps.reduce((before, normalize) => normalize(before), text);
    }
    case "NFC":
    case "NFD":
    case "NFKC":
    case "NFKD": {
      const form = step.type;
      return (text) => text.normalize(form);
    }
    case "Replace": {
      const pattern = step.pattern();
      const content = step.text("content");
      return (text) => replaceAll(text, pattern, content);
    }
    case "Prepend": {
      const prepend = step.text("prepend");
      return (text) => text === "" ? text : prepend + text;
    }
    case "Strip": {
      const left = step.flag("strip_left");
      const right = step.flag("strip_right");
      return (text) => {
        const begun = left ? text.replace(leadingSpace, "") : text;
        return right ? begun.replace(trailingSpace, "") : begun;
      };
    }
    case "StripAccents":
      return (text) => text.replace(/\p{M}/gu, "");
    case "Lowercase":
      // One character at a time: a sigma that ends a word is like any other.
      return (text) => text.replaceAll("Σ", "σ").toLowerCase();
    default:
      throw step.unknown();
  }
}
