// The texts of a chat's choices while the GPU generates: new tokens go to a text worker and come back as
// text, without the GPU waiting for either. While one call is at work, newer tokens collect for the next.
// A choice's state travels with the calls, so they may go to different workers.

import type { TextModel, Texts } from "../text/messages.ts";
import { type ChoiceState, newChoice } from "../text/choice_state.ts";

export interface StreamedChoice {
  text: string;
  /** A stop sequence came. */
  stopped: boolean;
  /** Tokens up to the stop sequence, or all. */
  tokens: number;
}

interface Choice extends StreamedChoice {
  state: ChoiceState;
  /** Not yet sent. */
  fresh: number[];
}

export interface ChatStreamOptions {
  texts: Texts;
  model: TextModel;
  /** Choices of the chat. */
  n: number;
  /** Stop sequences. */
  stop: string[];
  onText(index: number, text: string): void;
}

export class ChatStream {
  #choices: Choice[];
  #working: Promise<void> | null = null;
  #failure: unknown = null;

  constructor(private options: ChatStreamOptions) {
    this.#choices = Array.from({ length: options.n }, () => ({
      text: "",
      stopped: false,
      tokens: 0,
      state: newChoice,
      fresh: [],
    }));
  }

  /** Takes new tokens of a choice; false once it needs no more. */
  push(index: number, tokens: Iterable<number>): boolean {
    const choice = this.#choices[index];
    if (choice.stopped || this.#failure !== null) return false;
    choice.fresh.push(...tokens);
    this.#working ??= this.#work();
    return true;
  }

  /** Waits for what is left. @throws as `Texts.call` */
  async end(): Promise<StreamedChoice[]> {
    await this.#working;
    const open = this.#choices.filter(({ stopped }) => !stopped);
    if (this.#failure === null && open.length > 0) await this.#decode(open, true);
    if (this.#failure !== null) throw this.#failure;
    return this.#choices.map(({ text, stopped, tokens }) => ({ text, stopped, tokens }));
  }

  async #work(): Promise<void> {
    for (;;) {
      const waiting = this.#choices.filter(({ fresh }) => fresh.length > 0);
      if (waiting.length === 0 || this.#failure !== null) break;
      await this.#decode(waiting, false);
    }
    this.#working = null;
  }

  async #decode(choices: Choice[], isLast: boolean): Promise<void> {
    const { texts, model, stop, onText } = this.options;
    const sent = choices.map(({ state, fresh }) => ({
      state,
      tokens: Uint32Array.from(fresh),
      isLast,
    }));
    for (const choice of choices) choice.fresh = [];
    try {
      const found = await texts.call("decode_chat", { model, stop, choices: sent });
      for (const [i, { state, text, used }] of found.entries()) {
        const choice = choices[i];
        choice.state = state;
        choice.stopped = state.stopped;
        choice.tokens += used;
        choice.text += text;
        // What came meanwhile came after the end.
        if (state.stopped) choice.fresh = [];
        if (text) onText(this.#choices.indexOf(choice), text);
      }
    } catch (error) {
      this.#failure = error;
    }
  }
}
