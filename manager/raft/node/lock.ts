// One process per directory, whoever uses the package. The lock names its owner by pid and start time, so that one left behind by a crash, also
// of another boot or in another container with the same pids, does not stand in the way.

import { join } from "node:path";
import { DiskError, errorCode, type FileSystem } from "./file-system.js";

export const lockFile = "lock";

/** Another process works on the directory. */
export class DirectoryLockedError extends Error {
  override name = "DirectoryLockedError";

  constructor(directory: string, owner: string) {
    super(
      `${directory} is in use by ${owner}: two processes on one log destroy it. End that process, or give this one a ` +
        `directory of its own. If it is of another machine or container and has ended, remove the file "${lockFile}" there.`,
    );
  }
}

/** Throws a DirectoryLockedError. What comes back releases the lock. */
export function lockDirectory(fs: FileSystem, directory: string): () => void {
  const path = join(directory, lockFile);
  const mine = owner(fs, process.pid);
  for (let attempt = 0; attempt < 3; attempt++) {
    try {
      const fd = fs.openSync(path, "wx", 0o600);
      try {
        fs.writeSync(fd, mine);
      } finally {
        fs.closeSync(fd);
      }
      return () => release(fs, path, mine);
    } catch (error) {
      if (errorCode(error) !== "EEXIST") throw new DiskError("write", path, error);
    }
    takeAway(fs, directory, path);
  }
  throw new DirectoryLockedError(directory, "processes that start at the same time");
}

/** Removes a lock whose owner is gone. */
function takeAway(fs: FileSystem, directory: string, path: string): void {
  const found = readIfThere(fs, path);
  if (found === undefined) return;
  const pid = Number(/^pid (\d+)/.exec(found)?.[1] ?? 0);
  // An unfinished lock is of a process that starts right now, or crashed then.
  if (pid > 0 && isOwner(fs, pid, found)) {
    throw new DirectoryLockedError(directory, `process ${pid}`);
  }
  // By another name first: who was faster may have put its own lock here.
  const aside = `${path}.${process.pid}`;
  try {
    fs.renameSync(path, aside);
  } catch (error) {
    if (errorCode(error) === "ENOENT") return;
    throw error;
  }
  if (readIfThere(fs, aside) !== found) {
    fs.renameSync(aside, path);
    throw new DirectoryLockedError(directory, "another process that starts at the same time");
  }
  fs.unlinkSync(aside);
}

function isOwner(fs: FileSystem, pid: number, lock: string): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if (errorCode(error) === "ESRCH") return false;
  }
  return !isDead(fs, pid) && owner(fs, pid) === lock;
}

/**
 * Killed, and its parent has not asked yet: the pid still answers, and nothing runs. Not so while threads are left: one
 * of them may be in the middle of a write.
 */
function isDead(fs: FileSystem, pid: number): boolean {
  const fields = statFields(fs, pid);
  return (fields?.[0] === "Z" || fields?.[0] === "X") && Number(fields[17]) <= 1;
}

/** The boot and the start within it make a pid unique; systems without /proc have the pid alone. */
function owner(fs: FileSystem, pid: number): string {
  const boot = readIfThere(fs, "/proc/sys/kernel/random/boot_id")?.trim() ?? "-";
  return `pid ${pid} started ${statFields(fs, pid)?.[19] ?? "-"} boot ${boot}\n`;
}

/** From the third on (proc(5)): the state, …, the number of threads at 17, the start at 19. */
function statFields(fs: FileSystem, pid: number): string[] | undefined {
  const stat = readIfThere(fs, `/proc/${pid}/stat`);
  // The name, in parentheses, may hold anything.
  return stat?.slice(stat.lastIndexOf(")") + 2).split(" ");
}

function release(fs: FileSystem, path: string, mine: string): void {
  if (readIfThere(fs, path) === mine) fs.unlinkSync(path);
}

function readIfThere(fs: FileSystem, path: string): string | undefined {
  try {
    return fs.readFileSync(path, "utf8");
  } catch (error) {
    if (errorCode(error) === "ENOENT" || errorCode(error) === "ESRCH") return undefined;
    throw error;
  }
}
