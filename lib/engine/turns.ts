// Tasks share one GPU by taking turns, first come first served. A training job takes one turn a step,
// so a chat request waits for a step, not for the job.

export interface Turns {
  /** Runs `work` alone on the GPU, after everyone who asked before. */
  take<T>(work: () => Promise<T>): Promise<T>;
}

/** A queue of turns. A turn that throws gives way like any other. */
export function createTurns(): Turns {
  let last: Promise<unknown> = Promise.resolve();
  return {
    take(work) {
      const turn = last.then(work, work);
      last = turn.catch(() => {});
      return turn;
    },
  };
}
