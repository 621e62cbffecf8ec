// Progress on a terminal, where one line is drawn over, and elsewhere, where only whole lines are
// printed, few enough to read: a phase's first and last, and one every five seconds between.

import type { JobEvent, Progress } from "./client.ts";

export interface Screen {
  isTerminal: boolean;
  /** Characters of a line. */
  columns: number;
  write(text: string): void;
}

/** The screen this program's output goes to. */
export function standardOutput(): Screen {
  const isTerminal = Deno.stdout.isTerminal();
  const encoder = new TextEncoder();
  return {
    isTerminal,
    columns: isTerminal ? Deno.consoleSize().columns : 100,
    write(text) {
      const bytes = encoder.encode(text);
      for (let at = 0; at < bytes.length;) at += Deno.stdout.writeSync(bytes.subarray(at));
    },
  };
}

/** E.g. "[#####---------------]". */
export function bar(share: number, width = 20): string {
  const full = Math.round(Math.min(1, Math.max(0, share)) * width);
  return `[${"#".repeat(full)}${"-".repeat(width - full)}]`;
}

/** E.g. "sft  [##########----------] 20/40 steps, 12 s left". */
export function progressText({ phase, done, total, unit, eta_s }: Progress): string {
  const left = eta_s === null || done >= total ? "" : `, ${Math.ceil(eta_s)} s left`;
  return `${phase.padEnd(10)} ${bar(total > 0 ? done / total : 1)} ${done}/${total} ${unit}${left}`;
}

/** What of a row of metrics is worth a line, in this order. */
const shownMetrics = [
  ["loss", "loss"],
  ["mean_token_accuracy", "token accuracy"],
  ["reward", "reward"],
  ["rewards/math_answer/mean", "math_answer"],
  ["frac_reward_zero_std", "groups without spread"],
  ["completions/mean_length", "length"],
  ["grad_norm", "gradient"],
  ["learning_rate", "rate"],
  ["tokens_per_s", "tokens/s"],
] as const;

/** E.g. "step 20: loss 0.412, gradient 0.31". */
export function metricsText(data: Record<string, unknown>): string {
  const shown = shownMetrics.flatMap(([name, label]) => {
    const value = data[name];
    return typeof value === "number" ? [`${label} ${Number(value.toPrecision(3))}`] : [];
  });
  return `step ${data.step}: ${shown.join(", ")}`;
}

/** Shows one job: hand its events to `show`, then call `end`. */
export class JobProgress {
  #drawn = false;
  #printedMs = -Infinity;
  #phase = "";
  #last: Progress | null = null;

  constructor(
    readonly screen: Screen,
    /** Every how many steps a line of metrics is printed. */
    readonly metricsEvery = 1,
    readonly nowMs: () => number = () => performance.now(),
  ) {}

  show = ({ type, data }: JobEvent): void => {
    if (type === "progress") this.#progress(data as unknown as Progress);
    if (type === "log") this.print(`${data.level}: ${data.message}`);
    if (type === "metrics") {
      const step = Number(data.step);
      if (step === 1 || step % this.metricsEvery === 0) this.print(metricsText(data));
    }
  };

  #progress(progress: Progress): void {
    this.#last = progress;
    const now = this.nowMs();
    const due = progress.phase !== this.#phase || progress.done >= progress.total ||
      now - this.#printedMs >= 5000;
    if (this.screen.isTerminal) this.#draw(progressText(progress));
    else if (due) this.screen.write(`  ${progressText(progress)}\n`);
    if (due) this.#printedMs = now;
    this.#phase = progress.phase;
  }

  #draw(text: string): void {
    // Cut, since a line that wraps cannot be drawn over.
    this.screen.write(`\r\x1b[K  ${text.slice(0, this.screen.columns - 3)}`);
    this.#drawn = true;
  }

  /** Prints a line of its own, above the bar. */
  print(text: string): void {
    if (this.#drawn) this.screen.write("\r\x1b[K");
    this.screen.write(`  ${text}\n`);
    if (this.#drawn && this.#last) this.#draw(progressText(this.#last));
  }

  /** Leaves the last state of the bar as a line. */
  end(): void {
    if (this.#drawn) this.screen.write("\n");
    this.#drawn = false;
  }
}
