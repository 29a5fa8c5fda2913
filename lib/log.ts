// Structured logging: an injected pino logger, constant messages plus fields, one line per state transition.

import { type DestinationStream, type Logger, pino } from "pino";

export type { Logger };

export const logLevels = ["trace", "debug", "info", "warn", "error", "silent"] as const;
export type LogLevel = (typeof logLevels)[number];

/** A process's root logger: JSON lines on standard error, or on `destination`. */
export function createLogger(name: string, level: LogLevel, destination?: DestinationStream): Logger {
  return pino(
    { name, level, timestamp: pino.stdTimeFunctions.isoTime, formatters: { level: (label) => ({ level: label }) } },
    destination ?? pino.destination({ dest: 2, sync: true }),
  );
}

/** For tests and short commands that report by other means. */
export const silentLogger: Logger = pino({ level: "silent" });
