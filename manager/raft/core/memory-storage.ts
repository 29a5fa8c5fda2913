// A log in memory: for tests, simulations and trials. It forgets everything with the process.

import type { Storage } from "./storage.js";
import { type ConfState, type Entry, type HardState, RaftInvariantError, type SnapshotMeta } from "./types.js";
import { emptyConfState } from "./conf-change.js";

export class MemoryStorage implements Storage {
  #hardState: HardState = { term: 0, vote: 0, commit: 0 };
  /** What the log stands on: the newest snapshot, or index 0 with the configuration that the cluster began with. */
  #base: SnapshotMeta;
  /** The newest snapshot that was made or received; the log may reach further back than it. */
  #snapshot: SnapshotMeta | undefined;
  /** Index and term of the entry before the first; `#entries[0].index === #before.index + 1`. */
  #before = { index: 0, term: 0 };
  #entries: Entry[] = [];

  /** Every member of a cluster begins with the same `confState`, also one that joins later and is not in it. */
  constructor(confState: ConfState = emptyConfState) {
    this.#base = { index: 0, term: 0, confState };
  }

  initialState(): { hardState: HardState; confState: ConfState } {
    return { hardState: this.#hardState, confState: this.#base.confState };
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
    return this.#snapshot;
  }

  setHardState(hardState: HardState): void {
    this.#hardState = { ...hardState };
  }

  /** The first may replace what is there from its index on. */
  append(entries: readonly Entry[]): void {
    const first = entries[0];
    if (first === undefined) return;
    const keep = first.index - this.firstIndex();
    if (keep < 0 || keep > this.#entries.length) {
      throw new RaftInvariantError(
        `append at ${first.index} to a log of ${this.firstIndex()}…${this.lastIndex()} leaves a gap or reaches below it`,
      );
    }
    this.#entries.length = keep;
    for (const entry of entries) this.#entries.push(entry);
  }

  /** What a leader sent takes the place of the whole log. */
  applySnapshot(snapshot: SnapshotMeta): void {
    if (snapshot.index <= this.#base.index) return;
    this.#base = snapshot;
    this.#snapshot = snapshot;
    this.#before = { index: snapshot.index, term: snapshot.term };
    this.#entries = [];
    this.#hardState = { ...this.#hardState, commit: Math.max(this.#hardState.commit, snapshot.index) };
  }

  /** Says that the state up to `index`, which is applied, can be sent; `compact` then frees the log. */
  createSnapshot(index: number, confState: ConfState): SnapshotMeta {
    const term = this.term(index);
    if (typeof term !== "number")
      throw new RaftInvariantError(`no snapshot can be made at ${index}: its term is ${term}`);
    if (index <= this.#base.index)
      throw new RaftInvariantError(`a snapshot at ${this.#base.index} is newer than ${index}`);
    const snapshot = { index, term, confState };
    this.#base = snapshot;
    this.#snapshot = snapshot;
    return snapshot;
  }

  /** Frees the entries up to `index`, which a snapshot must cover. */
  compact(index: number): void {
    const term = this.term(index);
    if (term === "compacted" || index === this.#before.index) return;
    if (term === "unavailable" || index > this.#base.index) {
      throw new RaftInvariantError(
        `compaction at ${index} needs a snapshot there; the newest is at ${this.#base.index}`,
      );
    }
    this.#entries = this.#entries.slice(index - this.#before.index);
    this.#before = { index, term };
  }
}
