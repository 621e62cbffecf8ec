// Where log lines go and which are written.

import { configure, getConsoleSink, getTextFormatter } from "@logtape/logtape";

const levels = ["debug", "info", "warning", "error"] as const;

/** Logs to the console from `level` on. @throws {Error} when there is no such level. */
export async function configureLog(level: string): Promise<void> {
  const lowestLevel = levels.find((one) => one === level);
  if (!lowestLevel) {
    throw new Error(`Cannot log at "${level}": LORAPAR_LOG is debug, info, warning or error.`);
  }
  const formatter = getTextFormatter({
    value: (value, inspect) => typeof value === "string" ? value : inspect(value),
  });
  await configure({
    sinks: { console: getConsoleSink({ formatter }) },
    loggers: [
      { category: ["lorapar"], lowestLevel, sinks: ["console"] },
      { category: ["logtape", "meta"], lowestLevel: "warning", sinks: ["console"] },
    ],
  });
}
