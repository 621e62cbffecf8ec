// A kernel can be so wrong on an adapter that the driver ends the process (lavapipe's JIT has done it).
// So the variant under check is written down beside the record before it runs: whoever finds a mark
// that no living process holds knows which variant to leave alone.

/** What was being checked. */
export interface Marked {
  key: string;
  fingerprint: string;
}

export class CheckMark {
  private constructor(private path: string, private file: Deno.FsFile | null) {}

  /**
   * Opens the mark beside `recordPath` and answers what a process that died was checking. Where
   * another process is checking, or there is no path or no lock, nothing is marked.
   */
  static async open(recordPath: string | null): Promise<{ mark: CheckMark; died: Marked | null }> {
    if (recordPath === null) return { mark: new CheckMark("", null), died: null };
    const path = `${recordPath}.checking`;
    let file: Deno.FsFile | null = null;
    try {
      file = await Deno.open(path, { read: true, write: true, create: true });
      // The lock goes with the process, however that ends.
      if (!await file.tryLock(true)) throw new Error("another process is checking");
      return { mark: new CheckMark(path, file), died: parsed(await Deno.readTextFile(path)) };
    } catch {
      file?.close();
      return { mark: new CheckMark(path, null), died: null };
    }
  }

  /** Notes what is about to run. */
  async set(marked: Marked): Promise<void> {
    if (!this.file) return;
    const bytes = new TextEncoder().encode(JSON.stringify(marked));
    await this.file.truncate();
    await this.file.seek(0, Deno.SeekMode.Start);
    await this.file.write(bytes);
  }

  /** Every check has come to its end. */
  async close(): Promise<void> {
    if (!this.file) return;
    await Deno.remove(this.path).catch(() => {});
    this.file.close();
    this.file = null;
  }
}

function parsed(text: string): Marked | null {
  try {
    const { key, fingerprint } = Object(JSON.parse(text));
    return typeof key === "string" && typeof fingerprint === "string" ? { key, fingerprint } : null;
  } catch {
    return null;
  }
}
