// What the core reads of the durable log. Writing is the driver's business: it does it when a Ready asks for it.

import type { ConfState, Entry, HardState, SnapshotMeta } from "./types.js";

/** Synchronous: the tail of the log is in memory. Index 0 has term 0 on an empty log. */
export interface Storage {
  initialState(): { hardState: HardState; confState: ConfState };
  /** Of the first entry that is there; the snapshot's index + 1. */
  firstIndex(): number;
  /** Of the last entry that is there; firstIndex() - 1 when there is none. */
  lastIndex(): number;
  /** The entry's term; also that of firstIndex() - 1. "compacted" below that, "unavailable" above lastIndex(). */
  term(index: number): number | "compacted" | "unavailable";
  /** Entries of low ≤ index < high, cut after `bytesMax` of data but never to none. */
  entries(low: number, high: number, bytesMax: number): readonly Entry[] | "compacted" | "unavailable";
  /** The newest snapshot that can be sent; undefined while there is none (yet). */
  snapshot(): SnapshotMeta | undefined;
}
