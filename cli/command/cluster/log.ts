// What is done to a directory is logged by the parts that do it; for a user at a terminal the lines are plain.

import { createLogger, type Logger } from "../../../lib/log.js";
import type { Io } from "../../io.js";
import { plain } from "../../screen/text.js";

/** Messages to standard error, each with its fields as words: `joined the cluster (member 2)`. */
export function plainLog(io: Io, level: "info" | "warn"): Logger {
  return createLogger("flotilla", level, {
    write(line) {
      io.err(`${plain(textOf(line))}\n`);
    },
  });
}

const ofPino = new Set(["level", "time", "pid", "hostname", "name", "msg"]);

function textOf(line: string): string {
  const fields = JSON.parse(line) as Record<string, unknown>;
  const words = Object.entries(fields)
    .filter(([key]) => !ofPino.has(key))
    .map(([key, value]) => `${key} ${typeof value === "string" ? value : JSON.stringify(value)}`);
  const message = typeof fields["msg"] === "string" ? fields["msg"] : "";
  return words.length === 0 ? message : `${message} (${words.join(", ")})`;
}
