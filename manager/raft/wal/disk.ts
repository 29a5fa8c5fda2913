// Changes to files as data: the log says what to write, a disk does it. The real one is node/disk.ts; the simulator has
// one that forgets what was not synced.

/** In the order given; a later one may take effect first unless a sync is in between. */
export type DiskOp =
  /** A new file of `bytes` zeros, there and preallocated. */
  | { op: "create"; file: string; bytes: number }
  /** The parts one after another, from `at` on; grows the file where needed. */
  | { op: "write"; file: string; at: number; parts: readonly Uint8Array[] }
  /** The file's contents survive a power cut. */
  | { op: "sync"; file: string }
  | { op: "rename"; from: string; to: string }
  | { op: "remove"; file: string }
  /** Creations, renames and removals survive a power cut. */
  | { op: "sync-directory" };

/** The directory as found at a start: names and contents. */
export type DiskImage = ReadonlyMap<string, Uint8Array>;
