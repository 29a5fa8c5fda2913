// The few functions of Node.js that touch the disk here, as an argument: so that failures can be shown.

import * as fs from "node:fs";

export type FileSystem = Pick<
  typeof fs,
  | "close"
  | "closeSync"
  | "fdatasync"
  | "fdatasyncSync"
  | "fsyncSync"
  | "mkdirSync"
  | "openSync"
  | "read"
  | "readFileSync"
  | "readdirSync"
  | "renameSync"
  | "statfsSync"
  | "unlinkSync"
  | "write"
  | "writeSync"
  | "writev"
  | "writevSync"
>;

export const realFileSystem: FileSystem = fs;

/** A disk that does not do what it must. The process is to end: what it holds and what is on disk may differ. */
export class DiskError extends Error {
  override name = "DiskError";
  readonly file: string;
  readonly operation: string;
  /** ENOSPC, EIO …; "unknown" for what has none. */
  readonly code: string;
  /** What failed, without the advice that the message ends with. */
  readonly problem: string;
  /** What to do. */
  readonly fix: string;

  constructor(operation: string, file: string, cause: unknown) {
    const code = errorCode(cause);
    const problem = `${operation} of ${file} failed with ${code} (${cause instanceof Error ? cause.message : String(cause)})`;
    const fix = advice(code);
    super(`${problem}. ${fix}`, { cause });
    this.problem = problem;
    this.fix = fix;
    this.operation = operation;
    this.file = file;
    this.code = code;
  }
}

export function errorCode(error: unknown): string {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "unknown";
}

/** Whether it is only that there is no room. */
export function isFull(code: string): boolean {
  return code === "ENOSPC" || code === "EDQUOT";
}

function advice(code: string): string {
  switch (code) {
    case "ENOSPC":
    case "EDQUOT":
      return "The disk is full and the reserve is used up: free space there, then start the process again.";
    case "EIO":
      return (
        "The disk is failing, and what was written last may be lost: replace it, remove this node from the cluster and " +
        "let it join again, empty, under a new id. Do not go on with this disk."
      );
    case "EROFS":
      return "The file system is read-only, often after an error of its disk: see the kernel's log before going on.";
    case "EACCES":
    case "EPERM":
      return "The process may not write there: give the directory to its user, then start it again.";
    case "EMFILE":
    case "ENFILE":
      return "Too many files are open: raise the limit (LimitNOFILE, ulimit -n), then start the process again.";
    default:
      return "Nothing is tried again, because it is not known what reached the disk; see to the disk, then start the process again.";
  }
}

/** At most this many parts in a writev (POSIX: IOV_MAX). */
export const partsMax = 1024;

/** All of the parts from `at` on, through the thread pool. */
export async function writeFully(fs: FileSystem, fd: number, parts: readonly Uint8Array[], at: number): Promise<void> {
  let to = at;
  for (let rest = parts; rest.length > 0; ) {
    const some = rest.slice(0, partsMax);
    const written = await call<number>((done) => fs.writev(fd, some, to, done));
    to += written;
    rest = partsAfter(rest, written);
  }
}

/** The same at once. */
export function writeFullySync(fs: FileSystem, fd: number, parts: readonly Uint8Array[], at: number): void {
  let to = at;
  for (let rest = parts; rest.length > 0; ) {
    const written = fs.writevSync(fd, rest.length > partsMax ? rest.slice(0, partsMax) : rest, to);
    to += written;
    rest = partsAfter(rest, written);
  }
}

/** What remains of the parts when the first `written` bytes are gone. */
function partsAfter(parts: readonly Uint8Array[], written: number): readonly Uint8Array[] {
  let skip = written;
  for (let n = 0; n < parts.length; n++) {
    const part = parts[n];
    if (part === undefined) continue;
    if (skip < part.length) {
      // POSIX allows it for no reason that would go away by asking again.
      if (written === 0) throw new Error("nothing was written");
      return [part.subarray(skip), ...parts.slice(n + 1)];
    }
    skip -= part.length;
  }
  return [];
}

/** A function of Node.js that calls back, as a promise. */
export function call<T>(start: (done: (error: Error | null, value?: T) => void) => void): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    start((error, value) => {
      if (error === null) resolve(value as T);
      else reject(error);
    });
  });
}

/** Creations, renames and removals in it survive a power cut. */
export function syncDirectory(fs: FileSystem, directory: string): void {
  const fd = fs.openSync(directory, "r");
  try {
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
}
