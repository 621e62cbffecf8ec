// The engine's events of one job as rows: progress no more often than a limit says, the rest as it comes.

import type { Progress, TaskEvent } from "../engine/messages.ts";
import type { Store } from "./store.ts";

/**
 * Answers what to call with each event of job `id`.
 * It throws when an event cannot become JSON; a full disk is the store's to bridge.
 */
export function recorder(
  store: Store,
  id: string,
  progressIntervalMs: number,
): (event: TaskEvent) => void {
  let lastMs = -Infinity;
  let lastPhase = "";
  const progress = ({ phase, done, total, unit, etaSeconds }: Progress) => {
    const now = performance.now();
    const due = now - lastMs >= progressIntervalMs;
    if (!due && phase === lastPhase && done < total) return;
    [lastMs, lastPhase] = [now, phase];
    const shown = { phase, done, total, unit, eta_s: etaSeconds };
    store.record(id, { progress: shown }, [{ type: "progress", data: shown }]);
  };
  const add = (type: "metrics" | "sample" | "log", data: unknown) =>
    store.record(id, {}, [{ type, data }]);
  return (event) => {
    switch (event.type) {
      case "progress":
        return progress(event.progress);
      case "metrics": {
        const { phase, step, values } = event;
        return add("metrics", { phase, step, ...values });
      }
      case "sample":
        return add("sample", event.sample);
      case "log":
        return add("log", { level: event.level, message: event.message });
      case "delta":
        return;
    }
  };
}
