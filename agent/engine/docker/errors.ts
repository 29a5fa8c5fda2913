// What the engine and the socket say, as ClusterErrors: normalised here, once, with the engine's own words kept. The
// engine answers most failures with status 500 and a sentence, so that a few sentences have to be recognised.

import { ClusterError, type ErrorCode, messageOf } from "../../../lib/mod.js";

/** Errors of the socket itself: nobody answered, or stopped in the middle. */
const awayCodes: ReadonlySet<string> = new Set([
  "ECONNREFUSED",
  "ECONNRESET",
  "ENOENT",
  "EPIPE",
  "ETIMEDOUT",
  "ERR_STREAM_PREMATURE_CLOSE",
  "ECONNABORTED",
]);

const codeOfStatus: Readonly<Record<number, ErrorCode>> = {
  400: "invalid_argument",
  401: "permission_denied",
  403: "permission_denied",
  404: "not_found",
  409: "conflict",
  501: "failed_precondition",
  503: "unavailable",
};

interface HttpFailure {
  statusCode: number;
  json: unknown;
}

function isHttpFailure(thrown: unknown): thrown is Error & HttpFailure {
  return thrown instanceof Error && "statusCode" in thrown && typeof thrown.statusCode === "number";
}

/** The HTTP status the engine answered with; undefined when it did not answer. */
export function statusOf(thrown: unknown): number | undefined {
  return isHttpFailure(thrown) ? thrown.statusCode : undefined;
}

/** The engine's own sentence. */
export function wordsOf(thrown: unknown): string {
  if (isHttpFailure(thrown)) {
    const { json } = thrown;
    if (typeof json === "object" && json !== null && "message" in json && typeof json.message === "string")
      return json.message.trim();
  }
  return messageOf(thrown).trim();
}

export function isAway(thrown: unknown): boolean {
  if (!(thrown instanceof Error)) return false;
  if ("code" in thrown && typeof thrown.code === "string" && awayCodes.has(thrown.code)) return true;
  return thrown.message === "socket hang up" || thrown.message === "aborted";
}

const portTaken = /port is already allocated|address already in use|cannot assign requested address/i;

/** `what` says what was tried, for the error's beginning: "start container 12ab". */
export function classify(thrown: unknown, what: string): ClusterError {
  if (thrown instanceof ClusterError) return thrown;
  if (isAway(thrown))
    return new ClusterError("unavailable", `${what}: the container engine does not answer (${messageOf(thrown)})`, {
      cause: thrown,
    });
  const words = wordsOf(thrown);
  const status = statusOf(thrown);
  if (portTaken.test(words))
    return new ClusterError("failed_precondition", `${what}: a host port is taken: ${words}`, { cause: thrown });
  const code = status === undefined ? "internal" : (codeOfStatus[status] ?? "internal");
  return new ClusterError(code, `${what}: ${words}`, { cause: thrown });
}

/**
 * A pull's failure. The registry's refusals come as sentences, in the stream or as status 404 or 500; what is the
 * registry's fault and may pass is `unavailable` with details.source "registry".
 */
export function classifyPull(words: string, image: string, cause?: unknown): ClusterError {
  const message = `pull ${image}: ${words}`;
  const options = cause === undefined ? {} : { cause };
  // The network goes before "denied": a route may say "connect: permission denied".
  if (/invalid reference format|repository name must be/i.test(words))
    return new ClusterError("invalid_argument", message, options);
  if (
    /no such host|lookup |dial (tcp|udp)|connection refused|timeout|timed out|EOF|reset by peer|toomanyrequests|TLS|50\d /i.test(
      words,
    )
  )
    return new ClusterError("unavailable", message, { ...options, details: { source: "registry" } });
  // "denied … repository does not exist or may require login" is how Docker Hub says either: denied goes first.
  if (/denied|unauthorized|authentication required|forbidden/i.test(words))
    return new ClusterError("permission_denied", message, options);
  if (/not found|manifest unknown|no matching manifest|does not exist/i.test(words))
    return new ClusterError("not_found", message, options);
  if (/no space left/i.test(words)) return new ClusterError("resource_exhausted", message, options);
  return new ClusterError("internal", message, options);
}
