// The text of one choice of a chat as its tokens come, cut before the first stop sequence. The state
// travels with each call, so that any text worker can go on where another was.

import type { ChatTokenizer } from "../../model/tokenizer.ts";
import type { NewText, NewTokens } from "./messages.ts";

/** Decodes new tokens; answers the text that is certain by now. */
export function continueChoice(
  tokenizer: ChatTokenizer,
  { state, tokens, isLast }: NewTokens,
  stops: string[],
): NewText {
  if (state.stopped) return { state, text: "", used: 0 };
  const decoder = tokenizer.streamDecoder({ state: state.decoder });
  let { held } = state;
  let used = 0;
  let cut = Infinity;
  const take = (piece: string) => {
    // A stop sequence may have begun in what was held.
    held += piece;
    const found = stops.map((stop) => held.indexOf(stop)).filter((at) => at >= 0);
    cut = Math.min(...found, Infinity);
  };
  for (const token of tokens) {
    used++;
    take(decoder.push(token));
    if (cut < Infinity) break;
  }
  if (isLast && cut === Infinity) take(decoder.flush());
  const stopped = cut < Infinity;
  const end = stopped ? cut : isLast ? held.length : held.length - heldBack(held, stops);
  return {
    state: { decoder: decoder.state(), held: held.slice(end), stopped },
    text: held.slice(0, end),
    used,
  };
}

/** How much of the end of a text may be the beginning of a stop sequence. */
function heldBack(text: string, stops: string[]): number {
  const most = Math.max(0, ...stops.map((stop) => stop.length - 1));
  let length = Math.min(most, text.length);
  while (length > 0 && !stops.some((stop) => stop.startsWith(text.slice(-length)))) length--;
  return length;
}
