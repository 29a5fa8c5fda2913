// How a ClusterError crosses gRPC, both ways, defined once for servers and clients. The status code is for programs
// that know only gRPC; the whole error travels beside it in the trailers, so that a client gets the very same
// ClusterError that the server threw, violations included.

import { Metadata, type ServiceError, type StatusObject, status } from "@grpc/grpc-js";

// Not through lib's door: that would load the logger into every command of the command line.
import { ClusterError, type ErrorCode, type Violation, toClusterError } from "../lib/errors.js";

/** The one table. `not_leader` shares UNAVAILABLE: a client that only knows gRPC tries another manager. */
export const statusOf: Readonly<Record<ErrorCode, status>> = {
  invalid_argument: status.INVALID_ARGUMENT,
  not_found: status.NOT_FOUND,
  already_exists: status.ALREADY_EXISTS,
  conflict: status.ABORTED,
  failed_precondition: status.FAILED_PRECONDITION,
  resource_exhausted: status.RESOURCE_EXHAUSTED,
  unavailable: status.UNAVAILABLE,
  not_leader: status.UNAVAILABLE,
  unknown_outcome: status.UNKNOWN,
  deadline_exceeded: status.DEADLINE_EXCEEDED,
  cancelled: status.CANCELLED,
  resync_required: status.OUT_OF_RANGE,
  permission_denied: status.PERMISSION_DENIED,
  unauthenticated: status.UNAUTHENTICATED,
  internal: status.INTERNAL,
};

/** For statuses that come without the error in their trailers: from gRPC itself, a proxy or another version. */
const codeOf: Readonly<Record<number, ErrorCode>> = {
  [status.INVALID_ARGUMENT]: "invalid_argument",
  [status.NOT_FOUND]: "not_found",
  [status.ALREADY_EXISTS]: "already_exists",
  [status.ABORTED]: "conflict",
  [status.FAILED_PRECONDITION]: "failed_precondition",
  [status.RESOURCE_EXHAUSTED]: "resource_exhausted",
  [status.UNAVAILABLE]: "unavailable",
  [status.UNKNOWN]: "unknown_outcome",
  [status.DEADLINE_EXCEEDED]: "deadline_exceeded",
  [status.CANCELLED]: "cancelled",
  [status.OUT_OF_RANGE]: "resync_required",
  [status.PERMISSION_DENIED]: "permission_denied",
  [status.UNAUTHENTICATED]: "unauthenticated",
  // The other side does not know the call: its version is another one.
  [status.UNIMPLEMENTED]: "failed_precondition",
};

/** The trailer with the error as JSON. `-bin` is gRPC's rule for values that are bytes. */
export const errorTrailer = "flotilla-error-bin";

// HTTP/2 peers refuse header blocks beyond a size, 16 KiB being common: what does not fit is cut, and says so.
const trailerBytesMax = 8 * 1024;
const detailsCharsMax = 1024;
const valueCharsMax = 256;
const violationsMax = 64;

function cut(text: string, max: number): string {
  return text.length <= max ? text : `${text.slice(0, max - 1)}…`;
}

interface Wire {
  code: ErrorCode;
  message: string;
  details: Readonly<Record<string, string>>;
  violations: readonly Violation[];
}

function toBytes(error: ClusterError): Buffer {
  const violations = error.violations.slice(0, violationsMax).map((violation) => ({
    field: cut(violation.field, valueCharsMax),
    value: cut(violation.value, valueCharsMax),
    rule: cut(violation.rule, valueCharsMax),
    fix: cut(violation.fix, valueCharsMax),
  }));
  const wire: Wire = {
    code: error.code,
    message: cut(error.message, detailsCharsMax),
    details: error.details,
    violations,
  };
  let bytes = Buffer.from(JSON.stringify(wire));
  let left = violations.length;
  while (bytes.length > trailerBytesMax && left > 0) {
    left = Math.floor(left / 2);
    bytes = Buffer.from(JSON.stringify({ ...wire, violations: violations.slice(0, left) }));
  }
  if (bytes.length > trailerBytesMax) bytes = Buffer.from(JSON.stringify({ ...wire, details: {}, violations: [] }));
  return bytes;
}

/** What a server answers or ends a stream with, whatever was thrown. */
export function toStatus(thrown: unknown): StatusObject {
  const error = toClusterError(thrown);
  const metadata = new Metadata();
  metadata.set(errorTrailer, toBytes(error));
  return { code: statusOf[error.code], details: cut(error.message, detailsCharsMax), metadata };
}

/** What a client got, as the error that the server threw; one from gRPC itself gets the nearest code. */
export function fromServiceError(error: ServiceError): ClusterError {
  const trailer = error.metadata.get(errorTrailer)[0];
  const sent = trailer === undefined ? undefined : parseWire(trailer);
  if (sent === undefined)
    return new ClusterError(codeOf[error.code] ?? "internal", error.details || error.message, { cause: error });
  return new ClusterError(sent.code, sent.message, {
    cause: error,
    details: { ...sent.details },
    violations: sent.violations,
  });
}

/** Undefined for anything but an error of ours: what another version or a stranger sent is not trusted to have the shape. */
function parseWire(trailer: string | Buffer): Wire | undefined {
  let parsed: unknown;
  try {
    parsed = JSON.parse(trailer.toString());
  } catch {
    return undefined;
  }
  if (!isRecord(parsed)) return undefined;
  const { code, message, details, violations } = parsed;
  if (typeof code !== "string" || !Object.hasOwn(statusOf, code) || typeof message !== "string") return undefined;
  return {
    code: code as ErrorCode,
    message,
    details: isRecord(details)
      ? Object.fromEntries(
          Object.entries(details).filter((entry): entry is [string, string] => typeof entry[1] === "string"),
        )
      : {},
    violations: Array.isArray(violations) ? violations.filter(isViolation) : [],
  };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isViolation(value: unknown): value is Violation {
  return isRecord(value) && ["field", "value", "rule", "fix"].every((key) => typeof value[key] === "string");
}
