// `--log-level`, of all long-running processes.

import type { LogLevel } from "../../lib/log.js";
import type { Flag } from "./flag.js";
import { oneOf } from "./parsers.js";

const levels: Readonly<Record<LogLevel, LogLevel>> = {
  trace: "trace",
  debug: "debug",
  info: "info",
  warn: "warn",
  error: "error",
  silent: "silent",
};

export const logLevelFlag: Flag = {
  long: "log-level",
  value: "LEVEL",
  help: "trace, debug, info, warn, error or silent (default info)",
  complete: Object.keys(levels),
};

export const logLevel = oneOf(levels);
