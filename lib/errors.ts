// One error type for everything that can go wrong between processes. Code decides what a program does, message what
// a person reads. A broken invariant is not a ClusterError: it is thrown as a plain Error and ends the process.

/** The closed set; match these, never messages. */
export type ErrorCode =
  /** The request is wrong whatever the state; `violations` says where. */
  | "invalid_argument"
  | "not_found"
  | "already_exists"
  /** Somebody else wrote in between: read again and decide again. */
  | "conflict"
  /** Right in itself, but not in this state. */
  | "failed_precondition"
  | "resource_exhausted"
  /** Nobody answers; the request was not done. */
  | "unavailable"
  /** This manager does not lead; `details.leader` may say who does. */
  | "not_leader"
  /** No answer came: the request may or may not have been done. */
  | "unknown_outcome"
  | "deadline_exceeded"
  | "cancelled"
  /** A stream lost its place: start again from the whole state. */
  | "resync_required"
  | "permission_denied"
  | "unauthenticated"
  | "internal";

/** What is wrong with one field of a request. */
export interface Violation {
  /** Path, as the user wrote it: `ports[0].published`. */
  field: string;
  /** The value found, as text. */
  value: string;
  /** What must hold. */
  rule: string;
  /** What to write instead. */
  fix: string;
}

const retryable: ReadonlySet<ErrorCode> = new Set([
  "conflict",
  "unavailable",
  "not_leader",
  "deadline_exceeded",
  "resync_required",
]);

export class ClusterError extends Error {
  readonly code: ErrorCode;
  readonly details: Readonly<Record<string, string>>;
  readonly violations: readonly Violation[];

  constructor(
    code: ErrorCode,
    message: string,
    options: { cause?: unknown; details?: Record<string, string>; violations?: readonly Violation[] } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "ClusterError";
    this.code = code;
    this.details = options.details ?? {};
    this.violations = options.violations ?? [];
  }

  /** Whether doing the same again later can help. */
  get retryable(): boolean {
    return retryable.has(this.code);
  }

  /** All violations in one error; `invalid_argument`. */
  static invalid(violations: readonly Violation[]): ClusterError {
    return new ClusterError("invalid_argument", violations.map(describeViolation).join("\n"), { violations });
  }
}

/** One line: `replicas: "-1" must be an integer from 0 to 10000; write for example --replicas 3`. */
export function describeViolation({ field, value, rule, fix }: Violation): string {
  return `${field}: ${JSON.stringify(value)} ${rule}; ${fix}`;
}

/** Whatever was thrown, as a ClusterError: unknown things become `internal` and keep their cause. */
export function toClusterError(thrown: unknown): ClusterError {
  if (thrown instanceof ClusterError) return thrown;
  if (thrown instanceof Error && thrown.name === "AbortError")
    return new ClusterError("cancelled", thrown.message, { cause: thrown });
  return new ClusterError("internal", messageOf(thrown), { cause: thrown });
}

/** The message of whatever was thrown; an AggregateError without one gives its parts'. */
export function messageOf(thrown: unknown): string {
  if (thrown instanceof AggregateError && thrown.message === "") return thrown.errors.map(messageOf).join("; ");
  return thrown instanceof Error ? thrown.message : String(thrown);
}
