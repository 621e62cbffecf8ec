// A sample in one form, whatever its file looked like (API.md, "Files in").

export const systems = ["system1", "system2"] as const;
export type System = typeof systems[number];

export interface Message {
  role: "system" | "user" | "assistant";
  content: string;
}

/** A sample: what the model is shown, what it should answer, and every other field as it came. */
export interface Sample {
  /** The conversation up to the answer. */
  prompt: Message[];
  /** The reference answer, the text of the assistant's turn; null when the file has none. */
  answer: string | null;
  /** The label, when the file carries one. */
  system: System | null;
  /** The record as read; graders and rewards reach it as `item`. */
  item: Record<string, unknown>;
}
