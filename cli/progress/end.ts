// From the end of a wait to what the user sees and the code that the command exits with.

import { Failure, type Exit, exits } from "../exit.js";
import { safeJson } from "../screen/text.js";
import type { Given } from "../command/leaf.js";
import type { Io } from "../io.js";
import type { ProgressMode } from "./screens.js";
import type { Result } from "./watch.js";

const exitOf: Readonly<Record<Result["outcome"], Exit>> = {
  converged: exits.ok,
  "rolled-back": exits.undone,
  paused: exits.undone,
  aborted: exits.undone,
  failed: exits.undone,
  superseded: exits.error,
  removed: exits.error,
  unplaceable: exits.unplaceable,
  timeout: exits.timeout,
  detached: exits.detached,
};

/** Answers the code of a wait that ended well, and throws the Failure of one that did not. */
export function endWait(
  io: Io,
  { json }: Pick<Given, "json">,
  mode: ProgressMode,
  service: { id: string; name: string },
  result: Result,
): Exit {
  const exit = exitOf[result.outcome];
  const reason = "reason" in result ? result.reason : "";
  if (json || mode === "json") {
    const end = { type: "end", ...service, outcome: result.outcome, revision: result.revision, reason, exit };
    const more = {
      ...("slots" in result ? { slots: result.slots } : {}),
      ...("run" in result ? { run: result.run } : {}),
    };
    io.out(`${safeJson({ ...end, ...more })}\n`);
  }
  if (exit === exits.ok) return exit;
  const { name } = service;
  const watching = [`flotilla rollout status -w --revision ${result.revision} ${name}`, "go on watching"] as const;
  const [watch = ""] = commented([watching]);
  const look = `flotilla service ps ${name}`;
  switch (result.outcome) {
    case "converged":
      return exit;
    case "rolled-back":
      throw new Failure(exit, `${name} was rolled back and runs revision ${result.revision} now`, {
        why: [reason],
        next: [`flotilla service ps --no-trunc ${name}`, `flotilla service logs --tail 50 ${name}`],
      });
    case "aborted":
      throw new Failure(exit, `the rollout was aborted; ${name} runs revision ${result.revision} now`, {
        why: [reason],
        next: [look],
      });
    case "paused":
      throw new Failure(exit, `${name} is half-way: ${reason}`, {
        next: [
          ...commented([
            [`flotilla rollout resume ${name}`, "go on"],
            [`flotilla service rollback ${name}`, "go back"],
          ]),
          `flotilla service ps --no-trunc ${name}`,
        ],
      });
    case "failed":
      throw new Failure(exit, `run ${result.run} of ${name} failed`, {
        why: [reason],
        next: [
          `flotilla service ps --no-trunc ${name}`,
          `flotilla service logs --tail 50 ${name}`,
          `flotilla service run ${name}    # try again`,
        ],
      });
    case "superseded":
      throw new Failure(exit, `${name} is not what you asked for: ${reason}`, {
        next: [watch, `flotilla service inspect ${name}`],
      });
    case "removed":
      throw new Failure(exit, `${name}: ${reason} while you waited`, { next: ["flotilla service ls"] });
    case "unplaceable":
      throw new Failure(
        exit,
        `no node can take ${result.slots.length === 1 ? "a task" : `${result.slots.length} tasks`} of ${name}; ${result.slots.length === 1 ? "it stays" : "they stay"} pending`,
        {
          why: bySlots(name, result.slots),
          next: [
            ...commented([
              ["flotilla node ls", "make room, add or activate a node"],
              [`flotilla service update … ${name}`, "or ask for less, or for other nodes"],
              watching,
            ]),
          ],
        },
      );
    case "timeout":
      throw new Failure(exit, `${name}: ${reason}; the cluster goes on`, { next: [watch, look] });
    case "detached":
      throw new Failure(exit, `detached from ${name}; the cluster goes on`, { next: [watch, look] });
  }
}

/** Commands with what they are for, in two columns. */
function commented(lines: readonly (readonly [command: string, comment: string])[]): string[] {
  const width = Math.max(...lines.map(([command]) => command.length));
  return lines.map(([command, comment]) => `${command.padEnd(width)}    # ${comment}`);
}

const reasonsMax = 10;

/** "web.3, web.4: 3 nodes: 3 short of memory" */
function bySlots(name: string, slots: readonly { slot: number; reason: string }[]): string[] {
  const by = new Map<string, number[]>();
  for (const { slot, reason } of slots) by.set(reason, [...(by.get(reason) ?? []), slot]);
  const lines = [...by].map(([reason, numbers]) => {
    const named = numbers.slice(0, 3).map((slot) => `${name}.${slot}`);
    const more = numbers.length > named.length ? ` and ${numbers.length - named.length} more` : "";
    return `${named.join(", ")}${more}: ${reason}`;
  });
  return lines.length <= reasonsMax
    ? lines
    : [...lines.slice(0, reasonsMax), `… and ${lines.length - reasonsMax} more reasons`];
}
