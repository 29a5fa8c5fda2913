// How a command ends. The codes are part of the interface: scripts go by them.

import type { Violation } from "../lib/errors.js";

export const exits = {
  /** Done; for deploys: converged on the requested revision. */
  ok: 0,
  error: 1,
  /** Tasks stay pending because no node can take them. */
  unplaceable: 3,
  /** The rollout was rolled back, paused or aborted. */
  undone: 4,
  timeout: 5,
  /** What was asked for breaks a rule, found here or by the managers; nothing was changed. */
  usage: 125,
  /** Ctrl-C: the command left, the cluster goes on. */
  detached: 130,
} as const;
export type Exit = (typeof exits)[keyof typeof exits];

/** An ending that explains itself: what, why, and what to type next. */
export class Failure extends Error {
  readonly exit: Exit;
  readonly why: readonly string[];
  readonly next: readonly string[];

  constructor(
    exit: Exit,
    message: string,
    parts: { why?: readonly string[]; next?: readonly string[]; cause?: unknown } = {},
  ) {
    super(message, parts.cause === undefined ? undefined : { cause: parts.cause });
    this.name = "Failure";
    this.exit = exit;
    this.why = parts.why ?? [];
    this.next = parts.next ?? [];
  }
}

/** Flags or arguments that break their rules: all of them at once. */
export class UsageError extends Error {
  readonly violations: readonly Violation[];

  constructor(violations: readonly Violation[]) {
    super(violations.map((violation) => violation.field).join(", "));
    this.name = "UsageError";
    this.violations = violations;
  }
}
