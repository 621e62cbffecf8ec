// Where the text of one choice of a chat is, as plain data.

import type { StreamState } from "../../model/tokenizer.ts";

export interface ChoiceState {
  /** Null before the first token. */
  decoder: StreamState | null;
  /** Decoded, but it may be the beginning of a stop sequence. */
  held: string;
  /** A stop sequence came. */
  stopped: boolean;
}

export const newChoice: ChoiceState = { decoder: null, held: "", stopped: false };
