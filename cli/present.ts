// Errors for people: the message, its cause, and what to type next; and the code to end with.

import { CommanderError } from "commander";
import { ClusterError, describeViolation, messageOf, type Violation } from "../lib/errors.js";
import { Failure, UsageError, exits, type Exit } from "./exit.js";
import { plain, plainLines } from "./screen/text.js";

export interface Presented {
  exit: Exit;
  text: string;
}

/** `command` is the full name of what was typed, as "flotilla service create", for the way to its help. */
export function present(error: unknown, command: string): Presented {
  const thrown = original(error);
  if (thrown instanceof CommanderError) {
    if (thrown.exitCode === 0) return { exit: exits.ok, text: "" };
    const message = thrown.message.replace(/^error: /, "").replaceAll("\n", " ");
    const text = thrown.code === "commander.help" ? "" : `${lines("error", [message])}${help(command)}`;
    return { exit: exits.usage, text };
  }
  if (thrown instanceof UsageError)
    return { exit: exits.usage, text: `${lines("error", thrown.violations.map(described))}${help(command)}` };
  if (thrown instanceof Failure)
    return {
      exit: thrown.exit,
      // Leaving is no error.
      text:
        lines(thrown.exit === exits.detached ? "" : "error", [thrown.message]) +
        lines("cause", thrown.why) +
        lines("next", thrown.next),
    };
  if (thrown instanceof ClusterError)
    // What the managers find wrong in a spec is as wrong as what is found here.
    return {
      exit: thrown.code === "invalid_argument" ? exits.usage : exits.error,
      text: presentCluster(thrown, command),
    };
  return {
    exit: exits.error,
    text:
      lines("error", [`this should not have happened: ${messageOf(thrown)}`]) +
      (thrown instanceof Error && thrown.stack !== undefined ? `${plainLines(thrown.stack)}\n` : ""),
  };
}

/** What went wrong first: what failed while things were closed after it says less. */
function original(error: unknown): unknown {
  let first = error;
  while (first instanceof Error && first.name === "SuppressedError" && "suppressed" in first) first = first.suppressed;
  return first;
}

function presentCluster(error: ClusterError, command: string): string {
  const { code, violations, details } = error;
  const text =
    violations.length > 0
      ? lines("error", violations.map(described))
      : lines("error", [error.message || code.replaceAll("_", " ")]);
  const cause = lines(
    "cause",
    Object.entries(details)
      .filter(([key]) => key === "cause" || key === "reason")
      .map(([, value]) => value),
  );
  const echo =
    details["afterLoss"] === "true"
      ? lines("cause", ["the answer to the first try was lost: this may be its echo, and the change may be there"])
      : "";
  return text + cause + echo + way(error, command);
}

/** What to type next. A violation has its own fix, and a message may name a command already. */
function way(error: ClusterError, command: string): string {
  const { next } = error.details;
  if (next !== undefined) return lines("next", [next]);
  if (error.code === "invalid_argument") return help(command);
  if (error.violations.length > 0 || error.message.includes("flotilla ")) return "";
  return lines("next", nextSteps(error.code, command));
}

function nextSteps(code: ClusterError["code"], command: string): string[] {
  const [, noun = ""] = command.split(" ");
  switch (code) {
    case "not_found":
    case "already_exists":
      return [
        `flotilla ${noun === "node" || noun === "cluster" ? noun : "service"} ${noun === "cluster" ? "status" : "ls"}`,
      ];
    case "conflict":
      return ["run it again: somebody else made a change in between"];
    case "invalid_argument":
      return [];
    case "unavailable":
    case "not_leader":
      // What a process of this host lacks is in its message: a port, a folder.
      return ["manager", "agent", "ambassador"].includes(noun)
        ? []
        : ["flotilla cluster status    # how the managers are; then try again"];
    case "deadline_exceeded":
    case "resync_required":
    case "resource_exhausted":
      return ["try again in a few seconds"];
    case "unknown_outcome":
      return noun === "cluster"
        ? ["flotilla cluster status    # look before you try again"]
        : ["flotilla service ls    # look before you try again"];
    case "permission_denied":
    case "unauthenticated":
    case "failed_precondition":
    case "cancelled":
    case "internal":
      return [];
  }
}

/** A flag that stands for itself has no value to show. */
function described(violation: Violation): string {
  const { field, value, rule, fix } = violation;
  return value === "" && /^(is needed|contradicts|was given|is of)\b/.test(rule)
    ? `${field} ${rule}; ${fix}`
    : describeViolation(violation);
}

function help(command: string): string {
  return `See '${command} --help'.\n`;
}

function lines(what: string, texts: readonly string[]): string {
  return texts
    .flatMap((text) => plainLines(text).trimEnd().split("\n"))
    .map((line, i) =>
      what === ""
        ? `${plain(line)}\n`
        : `${(what === "next" || what === "cause") && i > 0 ? " ".repeat(what.length + 1) : `${what}:`} ${plain(line)}\n`,
    )
    .join("");
}
