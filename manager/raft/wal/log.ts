// The log as the core reads it: entries since the last compaction, in memory; what the records on disk add up to.

import type { Storage } from "../core/storage.js";
import { type ConfState, type Entry, type HardState, RaftInvariantError, type SnapshotMeta } from "../core/types.js";
import type { Position } from "./records.js";

export class Log implements Storage {
  /** The entry before the first one. Invariant: #entries[n].index === #before.index + 1 + n. */
  #before: Position;
  #entries: Entry[] = [];
  #hardState: HardState;
  /** Of the newest marker, or at index 0 the first configuration. Invariant: #before.index ≤ #snapshot.index. */
  #snapshot: SnapshotMeta;

  constructor(before: Position, hardState: HardState, snapshot: SnapshotMeta) {
    this.#before = before;
    this.#hardState = hardState;
    this.#snapshot = snapshot;
  }

  initialState(): { hardState: HardState; confState: ConfState } {
    return { hardState: this.#hardState, confState: this.#snapshot.confState };
  }

  firstIndex(): number {
    return this.#before.index + 1;
  }

  lastIndex(): number {
    return this.#before.index + this.#entries.length;
  }

  term(index: number): number | "compacted" | "unavailable" {
    if (index < this.#before.index) return "compacted";
    if (index === this.#before.index) return this.#before.term;
    return this.#entries[index - this.#before.index - 1]?.term ?? "unavailable";
  }

  entries(low: number, high: number, bytesMax: number): readonly Entry[] | "compacted" | "unavailable" {
    if (low <= this.#before.index) return "compacted";
    if (high > this.lastIndex() + 1) return "unavailable";
    const from = low - this.firstIndex();
    const until = high - this.firstIndex();
    let bytes = 0;
    let to = from;
    for (; to < until; to++) {
      bytes += this.#entries[to]?.data.length ?? 0;
      if (bytes > bytesMax && to > from) break;
    }
    return this.#entries.slice(from, to);
  }

  snapshot(): SnapshotMeta | undefined {
    return this.#snapshot.index === 0 ? undefined : this.#snapshot;
  }

  /** Also what stands at index 0. */
  get standsOn(): SnapshotMeta {
    return this.#snapshot;
  }

  /** The last entry; that before the first one when there is none. */
  get last(): Position {
    const entry = this.#entries.at(-1);
    return entry === undefined ? this.#before : { index: entry.index, term: entry.term };
  }

  /** Nothing is changed by a batch that breaks a rule. */
  check(batch: { installed?: SnapshotMeta; entries: readonly Entry[]; hardState?: HardState }): void {
    const { installed, entries, hardState } = batch;
    if (installed !== undefined && installed.index <= this.#snapshot.index) {
      throw new RaftInvariantError(
        `a snapshot at ${installed.index} is to be installed over one at ${this.#snapshot.index}`,
      );
    }
    const first = entries[0];
    if (first !== undefined) {
      const low = installed === undefined ? this.#before.index : installed.index;
      const high = installed === undefined ? this.lastIndex() : installed.index;
      if (first.index <= low || first.index > high + 1) {
        throw new RaftInvariantError(
          `entries from ${first.index} on do not fit a log of ${low + 1} … ${high}: they leave a gap or reach below it`,
        );
      }
      const { commit } = this.#hardState;
      if (installed === undefined && first.index <= commit) {
        const replaced = entries.find((entry) => entry.index <= commit && this.#differs(entry));
        if (replaced !== undefined || first.index + entries.length - 1 < commit) {
          throw new RaftInvariantError(
            `entries ${first.index} … ${first.index + entries.length - 1} are to replace committed ones; committed is ${commit}`,
          );
        }
      }
      let index = first.index;
      for (const entry of entries) {
        if (entry.index !== index) {
          throw new RaftInvariantError(`entry ${entry.index} stands in a batch where ${index} belongs`);
        }
        index++;
      }
    }
    if (hardState !== undefined) {
      const { term, commit } = this.#hardState;
      if (hardState.term < term || hardState.commit < commit) {
        throw new RaftInvariantError(
          `the hard state goes back: term ${term} to ${hardState.term}, commit ${commit} to ${hardState.commit}`,
        );
      }
    }
  }

  #differs(entry: Entry): boolean {
    const here = this.term(entry.index);
    return typeof here === "number" && here !== entry.term;
  }

  /** The first may replace what is there from its index on. */
  append(entries: readonly Entry[]): void {
    const first = entries[0];
    if (first === undefined) return;
    this.#entries.length = first.index - this.firstIndex();
    for (const entry of entries) this.#entries.push(entry);
  }

  /** What a leader sent takes the place of the whole log. */
  install(snapshot: SnapshotMeta): void {
    this.#before = { index: snapshot.index, term: snapshot.term };
    this.#entries = [];
    this.mark(snapshot);
  }

  mark(snapshot: SnapshotMeta): void {
    this.#snapshot = snapshot;
    if (this.#hardState.commit < snapshot.index) {
      this.#hardState = { ...this.#hardState, commit: snapshot.index };
    }
  }

  setHardState(hardState: HardState): void {
    this.#hardState = { ...hardState, commit: Math.max(hardState.commit, this.#snapshot.index) };
  }

  /** Up to where entries may go, if the newest `entriesMax` below the snapshot stay, and of `bytesMax` of data at most. */
  freeable(entriesMax: number, bytesMax: number): number {
    let index = this.#snapshot.index;
    const last = Math.max(this.#before.index, index - entriesMax);
    for (let bytes = 0; index > last; index--) {
      bytes += this.#entries[index - this.#before.index - 1]?.data.length ?? 0;
      if (bytes > bytesMax) break;
    }
    return index;
  }

  /** Frees the entries up to `index`; it must be there, and covered by a snapshot. */
  compact(index: number): void {
    const term = this.term(index);
    if (typeof term !== "number" || index > this.#snapshot.index) {
      throw new RaftInvariantError(
        `the log of ${this.firstIndex()} … ${this.lastIndex()} cannot be freed up to ${index}: its snapshot is at ${this.#snapshot.index}`,
      );
    }
    this.#entries = this.#entries.slice(index - this.#before.index);
    this.#before = { index, term };
  }

  /** While segments are read: the entry before the first of a batch that reaches below what is known. */
  rebase(before: Position): void {
    this.#before = before;
    this.#entries = [];
  }

  /** Gives every entry memory of its own, so that the files as read can be freed. */
  detach(copy: (entry: Entry) => Entry): void {
    this.#entries = this.#entries.map(copy);
  }
}
