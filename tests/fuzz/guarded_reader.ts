// Asks a reader in a Worker and watches it: what it answered, whether it crashed or passed its
// deadline, and how far the process grew. A Worker that crashed or is late is replaced.

import type { Answer } from "./reader_worker.ts";

export interface Outcome {
  kind: "read" | "refused" | "crashed" | "late";
  /** The error's class, or "" where it was read. */
  error: string;
  message: string;
  /** Growth of the process's resident memory at its peak; 0 where the system does not tell. */
  grownBytes: number;
  elapsedMs: number;
}

/** The peak of resident memory since the last call, and the present, in bytes (Linux). */
function residentBytes(): { peak: number; now: number } {
  const read = (name: string, status: string) =>
    1024 * Number(new RegExp(`${name}:\\s*(\\d+) kB`).exec(status)?.[1]);
  try {
    const status = Deno.readTextFileSync("/proc/self/status");
    Deno.writeTextFileSync("/proc/self/clear_refs", "5");
    return { peak: read("VmHWM", status), now: read("VmRSS", status) };
  } catch {
    return { peak: 0, now: 0 };
  }
}

export class GuardedReader {
  #worker: Worker | null = null;

  /** @param first a question that loads the modules; it may be refused */
  constructor(
    readonly deadlineMs: number,
    private workerUrl = import.meta.resolve("./reader_worker.ts"),
    private first: unknown = { path: "/dev/null", filename: "nothing.txt" },
  ) {}

  /** Asks one question; the clock starts when the Worker is ready. */
  async ask(question: unknown): Promise<Outcome> {
    if (!this.#worker) {
      this.#worker = new Worker(this.workerUrl, { type: "module" });
      // Loading the modules is not part of reading.
      await this.#ask(this.first, 30_000);
    }
    return await this.#ask(question, this.deadlineMs);
  }

  /** Reads one data set. */
  read(path: string, filename: string): Promise<Outcome> {
    return this.ask({ path, filename });
  }

  async #ask(question: unknown, deadlineMs: number): Promise<Outcome> {
    const worker = this.#worker!;
    const { now: before } = residentBytes();
    const begin = performance.now();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const end = await new Promise<Pick<Outcome, "kind" | "error" | "message">>((resolve) => {
      worker.onmessage = ({ data }: MessageEvent<Answer>) =>
        resolve(
          "error" in data ? { kind: "refused", ...data } : {
            kind: "read",
            error: "",
            message: `${data.records} records`,
          },
        );
      worker.onerror = (event) => {
        event.preventDefault();
        resolve({ kind: "crashed", error: "", message: event.message });
      };
      timer = setTimeout(
        () => resolve({ kind: "late", error: "", message: `no answer in ${deadlineMs} ms` }),
        deadlineMs,
      );
      worker.postMessage(question);
    });
    clearTimeout(timer);
    if (end.kind === "crashed" || end.kind === "late") this.close();
    const grownBytes = residentBytes().peak - before;
    return { ...end, grownBytes, elapsedMs: performance.now() - begin };
  }

  close(): void {
    this.#worker?.terminate();
    this.#worker = null;
  }
}
