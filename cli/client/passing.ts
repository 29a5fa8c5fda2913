// Streams that break are begun again, as long as what broke them may pass.

import { ClusterError, type ErrorCode } from "../../lib/errors.js";
import { Failure } from "../exit.js";

/** Without a manager for so long, a command that follows something ends. */
export const awayMsMax = 120_000;

const passing: readonly ErrorCode[] = [
  "unavailable",
  "not_leader",
  "cancelled",
  "unknown_outcome",
  "deadline_exceeded",
  "resync_required",
  "internal",
];

/** Whether the same stream, begun again, may go on: nobody was there, or nobody could answer now. */
export function isPassing(error: unknown): boolean {
  return error instanceof Failure || (error instanceof ClusterError && passing.includes(error.code));
}
