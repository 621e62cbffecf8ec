// A kernel can be so wrong on an adapter that the driver ends the process or loses the device. So the
// variant under check is written down beside the record before it runs: whoever finds a mark that no
// living process holds knows where the last one came to its end. Once may be a coincidence, a user who
// stopped the server or a machine out of memory; twice at the same variant is that variant's doing.

/** What was being checked, and how many checks of it have ended so if this one does. */
export interface Marked {
  key: string;
  fingerprint: string;
  ends: number;
}

export class CheckMark {
  /** Whether `found` has been dealt with: checked once more, or left alone for good. */
  isSettled = false;

  private constructor(
    private path: string,
    private file: Deno.FsFile | null,
    /** Where the last check came to its end, if it left a mark. */
    readonly found: Marked | null,
  ) {}

  /**
   * Opens the mark beside `recordPath`. Where another process is checking, or there is no path or no
   * lock, nothing is found and nothing marked.
   */
  static async open(recordPath: string | null): Promise<CheckMark> {
    if (recordPath === null) return new CheckMark("", null, null);
    const path = `${recordPath}.checking`;
    let file: Deno.FsFile | null = null;
    try {
      file = await Deno.open(path, { read: true, write: true, create: true });
      // The lock goes with the process, however that ends.
      if (!await file.tryLock(true)) throw new Error("another process is checking");
      return new CheckMark(path, file, parsed(await Deno.readTextFile(path)));
    } catch {
      file?.close();
      return new CheckMark(path, null, null);
    }
  }

  /** Notes what is about to run. */
  async set(key: string, fingerprint: string): Promise<void> {
    const isFound = this.found?.key === key;
    if (isFound) this.isSettled = true;
    const before = isFound && this.found.fingerprint === fingerprint ? this.found.ends : 0;
    await this.#write({ key, fingerprint, ends: before + 1 });
  }

  async #write(marked: Marked): Promise<void> {
    if (!this.file) return;
    const bytes = new TextEncoder().encode(JSON.stringify(marked));
    await this.file.truncate();
    await this.file.seek(0, Deno.SeekMode.Start);
    await this.file.write(bytes);
  }

  /**
   * Takes the mark away, or puts back what was found if other ops were checked. After a check that has
   * lost the device the mark stays: that counts as an end.
   */
  async close({ hasLostDevice = false } = {}): Promise<void> {
    if (!this.file) return;
    if (!hasLostDevice) {
      if (this.found && !this.isSettled) await this.#write(this.found);
      else await Deno.remove(this.path).catch(() => {});
    }
    this.file.close();
    this.file = null;
  }
}

function parsed(text: string): Marked | null {
  try {
    const { key, fingerprint, ends } = Object(JSON.parse(text));
    const isMarked = typeof key === "string" && typeof fingerprint === "string" &&
      Number.isInteger(ends);
    return isMarked ? { key, fingerprint, ends } : null;
  } catch {
    return null;
  }
}
