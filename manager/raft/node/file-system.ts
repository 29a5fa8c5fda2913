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
  | "open"
  | "openSync"
  | "read"
  | "readFileSync"
  | "readdirSync"
  | "renameSync"
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

  constructor(operation: string, file: string, cause: unknown) {
    const code = errorCode(cause);
    const problem = cause instanceof Error ? cause.message : String(cause);
    super(`${operation} of ${file} failed with ${code} (${problem}). ${advice(code)}`, { cause });
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
