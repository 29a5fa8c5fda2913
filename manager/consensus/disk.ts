// What a manager's disk does wrong, in words and commands for whoever has to put it right.

import { DirectoryLockedError, DiskError, LogRefusedError, SnapshotError } from "raft-ts/node";
import { ClusterError } from "../../lib/mod.js";

/** A failure of the disk as a ClusterError with the way on in `details.next`; anything else as it is. */
export function explained(thrown: unknown, dataDir: string): unknown {
  const cause = thrown;
  if (thrown instanceof LogRefusedError)
    return new ClusterError("failed_precondition", thrown.problem, {
      cause,
      details: { next: thrown.lost ? rejoin(dataDir) : thrown.fix },
    });
  if (thrown instanceof SnapshotError)
    return new ClusterError("failed_precondition", thrown.problem, { cause, details: { next: rejoin(dataDir) } });
  if (thrown instanceof DiskError)
    return new ClusterError("failed_precondition", thrown.problem, {
      cause,
      details: { next: thrown.code === "EIO" ? `${failing}\n${rejoin(dataDir)}` : thrown.fix },
    });
  if (thrown instanceof DirectoryLockedError) return new ClusterError("failed_precondition", thrown.message, { cause });
  return thrown;
}

/** Whether it is the host's doing, and no fault of the program: there is no use in a stack then. */
export function isDiskFailure(error: unknown): boolean {
  return error instanceof DiskError || error instanceof SnapshotError || error instanceof LogRefusedError;
}

const failing = "see the kernel's log (dmesg); on a disk that fails, do not go on. On another one:";

function rejoin(dataDir: string): string {
  return [
    `mv ${dataDir} ${dataDir}.damaged    # or wipe it; then, as a new manager:`,
    `flotilla manager --data-dir ${dataDir} --join HOST:7400    # HOST is another manager; besides, what it was started with`,
    `flotilla cluster restore FILE --data-dir ${dataDir}    # instead, if this was the only one: FILE is a backup`,
  ].join("\n");
}
